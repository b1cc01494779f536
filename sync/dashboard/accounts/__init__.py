"""Who may look, at what, with whose yes, and what is on record of it."""
