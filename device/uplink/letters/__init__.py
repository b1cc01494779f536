"""Messages between door and registry beside events and commands."""
