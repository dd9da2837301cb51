"""Experiments: what a training, its evaluation and its studies are made of. The flow is `run_experiment.py`."""
