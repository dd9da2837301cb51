"""Files: how media lie on disks of others, in folders, tars and Parquet. What becomes of them is decided elsewhere."""
