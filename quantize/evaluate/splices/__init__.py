"""Answers pasted together from recordings: how often they open, and how far `ostiary inspect` finds them."""
