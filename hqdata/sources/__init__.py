"""Where pictures come from: finding the layouts of data sets on disk and pairing their files."""
