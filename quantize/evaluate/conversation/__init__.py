"""Conversations made from recordings of single people, and what the unit gets wrong in them."""
