"""What is known of each data set, as data: manifests, name lists, and finding a set by name."""
