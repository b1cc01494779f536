"""What `ostiary doctor --sound` hears of a microphone, from a driver's process that a test plays."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.audio.card.health import Trouble
from device.audio.card.process import CardProcess
from device.audio.settings import MicrophoneSettings
from device.commands.installed.sound import REMEDIES, troubles
from tests.device.audio.card.test_process import HEAD

PATIENT = MicrophoneSettings(start_s=60.0, stall_s=30.0)
DRIVER = """
opened()
begun = time.monotonic()
for number in range(9000):
    tell(b's', bytes(1) + b"".join(struct.pack("<h", {sample}) for at in range(320)))
    time.sleep(max(0.0, begun + {block_s} * number - time.monotonic()))
"""


@pytest.mark.parametrize(
    ("sample", "block_s", "told"),
    [("at % 91 * 7", 0.021, [Trouble.RATE]), ("5", 0.02, [Trouble.STUCK])],
)
def test_doctor_names_a_driver_that_drops_samples_and_a_dead_capsule(
    tmp_path: Path, sample: str, block_s: float, told: list[Trouble]
) -> None:
    child = tmp_path / "child.py"
    child.write_text(HEAD + DRIVER.format(sample=sample, block_s=block_s))
    assert troubles(PATIENT, lambda: CardProcess(child)) == told


def test_each_trouble_has_a_remedy() -> None:
    assert set(REMEDIES) == set(Trouble)


def test_doctor_listens_as_long_to_a_device_that_is_slow_to_open(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(HEAD + "time.sleep(4.0)\n" + DRIVER.format(sample="5", block_s=0.02))
    assert troubles(PATIENT, lambda: CardProcess(child), listen_s=7.5) == [Trouble.STUCK]
