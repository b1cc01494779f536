"""What the registry warned this unit of, and what the unit tells the registry of attempts."""
