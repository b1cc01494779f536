"""How every door is."""
