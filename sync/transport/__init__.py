"""MQTT between units and registry: messages, topics, and the agent that runs on a unit."""
