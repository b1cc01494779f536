"""A whole attempt at a door, in rooms and noise: what people and attackers meet there."""
