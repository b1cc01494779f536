"""What people ask the registry: the state of units, exports, and all that is held about one person."""
