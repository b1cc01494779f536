"""While it goes on: who speaks, and whether the claimed person still does."""
