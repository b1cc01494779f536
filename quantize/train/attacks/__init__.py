"""Attacks to learn from: synthesisers speaking door phrases, and real speech through vocoders."""
