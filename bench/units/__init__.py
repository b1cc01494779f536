"""Simulated units: real keys, certificates, sessions, chains and signatures; only their disk is memory."""
