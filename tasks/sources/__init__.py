"""One file a source of media; the file name is its name."""
