"""Files behind a URL: reading, writing and listing them over connections that fail."""
