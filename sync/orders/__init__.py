"""Signed, counted orders of a site to its units: commands, and the document of how a unit should be."""
