"""A bundle from its recipes: built, proven against float, self-test answered, signed."""
