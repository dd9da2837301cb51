"""Commands: what each verb of `mcgurk` accepts, does and prints. The work itself is done elsewhere."""
