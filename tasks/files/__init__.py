"""Files: how media of others are stored on disk, in folders, tars and Parquet. What becomes of them: `acquisition/`."""
