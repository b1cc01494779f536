"""Prints of attackers, from units to the registry, and threat lists back to the units."""
