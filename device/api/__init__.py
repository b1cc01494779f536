"""The REST facade: the unit's three checks for other systems, in a process beside the door's."""
