"""Fits networks, heads and norms on renderings of the training part."""
