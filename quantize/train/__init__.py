"""Trains, calibrates and exports the networks that are our own; the only place that needs PyTorch."""
