"""Signed bundles of models: verified, kept in slots, opened in a runtime."""
