"""Recorded files: unpacks their containers, and names what is not a recording."""
