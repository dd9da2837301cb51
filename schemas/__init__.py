"""What data is: every boundary between stages, and nothing else."""
