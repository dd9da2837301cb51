"""What a year of hourly runs adds to a disk, and what is kept: Prefect's database, and a root."""
