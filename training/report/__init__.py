"""Report: what a person looks at after an experiment. Numbers come from `evaluation/`."""
