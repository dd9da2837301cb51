"""What things cost, measured: each module prints its own table."""
