"""One file a feature; the file name is its name."""
