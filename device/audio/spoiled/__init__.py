"""Finds what spoils speech: mirrored bands, tones, lost blocks, the door's own tone, other voices."""
