"""How data changes: plain functions that can be pickled, tested and run without Prefect."""
