"""Learning: what one training does at each step, and what it remembers. `loop.py` runs it; no logger is known here."""
