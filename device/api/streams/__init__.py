"""Streams of sound over a WebSocket: who is speaking, and whether the one who was claimed still does."""
