"""Recorded files: their containers undone, and what is none named."""
