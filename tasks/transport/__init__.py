"""Transport: how one file comes over the wire, politely. What becomes of a segment is decided in `acquisition/`."""
