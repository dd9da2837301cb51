"""Versions: what happens to finished data: cards, duplicates, verification, take-downs. Nothing here makes a sample."""
