"""Whose voice it is: what of an attempt is heard, and what of a voiceprint it is held against."""
