"""Flows: what runs in which order, where and when. No logic."""
