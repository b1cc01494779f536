"""What the uplink carries between the door and the registry beside events and commands."""
