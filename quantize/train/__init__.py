"""Retrains the live check for a new attack, calibrates and exports it; nothing else needs PyTorch."""
