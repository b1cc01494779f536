"""The unit's process with a network: sends events, obeys commands, reports facts."""
