"""What data is: the boundaries between stages, and how their files are found, read and written whole."""
