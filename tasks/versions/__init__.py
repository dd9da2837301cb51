"""Versions: what is done with finished data: cards, duplicates, proofs, take-downs. Nothing here makes a sample."""
