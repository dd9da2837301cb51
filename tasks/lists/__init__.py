"""Lists: segments as people write them down, and which of them are chosen. Nothing is fetched here."""
