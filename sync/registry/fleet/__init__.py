"""How every unit of a fleet should be, who is enrolled where, and how far that has come."""
