"""One file a model; the file name is its name."""
