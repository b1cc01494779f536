"""From upstream checkpoints to a signed bundle of small models, and the numbers that prove it."""
