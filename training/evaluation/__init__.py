"""One file a question that an evaluation answers."""

SPLIT = "eval"  # whose clips no model has learnt from
