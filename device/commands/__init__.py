"""The command line of a unit: options and output alone."""
