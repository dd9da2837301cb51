"""Commands: what `mcgurk` takes, does and prints, one verb after the other. Work is done elsewhere."""
