"""Streams of sound over a WebSocket: who is speaking, and whether the claimed person still is."""
