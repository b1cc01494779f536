"""The unit's side of the network: sends events, obeys commands, reports facts."""
