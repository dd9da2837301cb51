"""How the model learns: knows shards and arrays, not how they came to be."""
