"""The REST facade: the unit's three checks for other systems, beside the door process, never inside it."""
