"""What a decision moves. Fail secure: a door is released for a moment and locks again by itself."""

from device.door.protocol import Door
from device.door.simulated import SimulatedDoor

__all__ = ["Door", "SimulatedDoor"]
