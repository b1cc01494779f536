"""Attacks, units and models over time."""
