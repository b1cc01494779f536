"""Recordings and attacks in memory: split, sent through rooms and codecs, and as the networks see them."""
