"""Files: how media of others lie on disk, in folders, tars and Parquet. What becomes of them: `acquisition/`."""
