"""Lock-down and roll call."""
