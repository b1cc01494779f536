"""Alarms as work."""
