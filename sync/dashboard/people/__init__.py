"""One person; temporary people and their sponsors."""
