"""What runs beside ingest until it is stopped: anomaly detection, alarms to their sinks, daily upkeep."""
