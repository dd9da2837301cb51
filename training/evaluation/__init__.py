"""One file a question that an evaluation answers."""
