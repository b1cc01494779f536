"""What a unit remembers of its attempts across power cuts, and which time it has seen."""
