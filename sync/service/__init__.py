"""Shared by services and command lines: journal, metrics, systemd, options."""
