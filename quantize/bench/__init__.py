"""Latency, memory and model sizes on this machine, beside the reference models."""
