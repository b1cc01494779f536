"""Strikes, contacts and readers. Fail secure: a door is released for a moment and locks again by itself."""

from device.door.lines import DoorError
from device.door.protocol import Door
from device.door.supervised import SupervisedDoor

__all__ = ["Door", "DoorError", "SupervisedDoor"]
