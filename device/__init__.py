"""The door unit: hears one attempt, judges it, decides, moves the strike. Needs no network."""
