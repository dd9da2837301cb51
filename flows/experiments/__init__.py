"""Experiments: the parts of a training, its evaluation and its studies. The flow is `run_experiment.py`."""
