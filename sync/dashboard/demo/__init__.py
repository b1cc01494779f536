"""The hospital that does not exist: its doors, its year, and what its desk has done."""
