"""Transport: how one file is transferred, politely. What becomes of a segment is decided in `acquisition/`."""
