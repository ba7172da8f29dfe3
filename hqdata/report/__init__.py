"""What a data set looks like, as a table and as a page."""
