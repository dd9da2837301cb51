"""Builds: what a dataset build is made of. The flow itself is `build_dataset.py`."""
