"""Incidents: alarms about one thing, as work for people."""
