"""Runs beside ingest until stopped: anomaly detection, delivery of alarms, daily upkeep."""
