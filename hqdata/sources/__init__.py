"""Where pictures come from: what is known of each data set, and finding its pairs on disk."""
