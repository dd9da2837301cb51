"""Reading: how samples come out of shards, and which of them make a batch. Nothing here learns."""
