"""Networks: parts that models share, and checkpoints. No model is here; those are in `models/`."""
