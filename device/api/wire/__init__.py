"""The connections of the facade: how many, from whom, and how long they may be silent."""
