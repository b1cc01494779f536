"""The state of every door, its holds, and who may pass it."""
