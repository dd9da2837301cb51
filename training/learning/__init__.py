"""Learning: the steps of one training, and the state that it keeps. `loop.py` runs it; nothing here logs metrics."""
