"""Chaos: seeded rounds of accidents on what is deployed, and the laws that must hold after each."""
