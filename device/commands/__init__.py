"""The command line of a unit: options and output; the work is done elsewhere."""
