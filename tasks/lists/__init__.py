"""Lists: segments as people write them down, and which of them are selected. Nothing is fetched here."""
