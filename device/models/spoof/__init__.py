"""The liveness check: the detector and its three front ends."""
