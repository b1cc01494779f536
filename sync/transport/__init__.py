"""How a unit and the registry talk: MQTT, the messages and topics, and the agent on the side of the unit."""
