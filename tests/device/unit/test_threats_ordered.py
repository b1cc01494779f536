"""A list of threats from the registry's signed command to the door that goes by it, and what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.units.memory_log import MemoryLog
from device.liveness.threats.known import KnownAttacks
from device.liveness.threats.print_box import PrintBox
from device.uplink.handler import unit_handler
from device.uplink.letters.prints import PrintMail, held_list
from sync.events import unit_id
from sync.keys import FileSigner
from sync.orders.commands import Command, open_result
from sync.outbox import Outbox
from sync.threats.listed import Threat, ThreatList
from sync.threats.prints import MODEL, VALUES
from sync.transport.agent import Agent
from tests.device.unit.test_watch import Scene, rules

UNIT = unit_id("st-mary/icu-2")
NOW_MS = 1_790_000_000_000
POINT = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
)
TOOL = bytes(range(1, VALUES + 1))


def listed(version: int) -> bytes:
    return ThreatList(version, NOW_MS + 9000, MODEL, POINT, (Threat(17, TOOL, 630),)).to_bytes()


class Line:
    """A door under watch, and the uplink's side of its commands."""

    def __init__(self, folder: Path) -> None:
        self.scene = Scene(folder, rules())
        self.threats = KnownAttacks(folder / "threats", lambda: NOW_MS)
        self.folder = folder / "prints"
        self.scene.unit.threats = self.threats  # type: ignore[attr-defined]
        self.scene.unit.prints = PrintBox(self.folder, UNIT, self.threats)  # type: ignore[attr-defined]
        self.desk, self.signer, registry = (FileSigner.generate() for _ in range(3))
        self.agent = Agent(
            log=MemoryLog(UNIT, lambda: 0.0, lambda: NOW_MS),
            signer=self.signer,
            link=None,  # type: ignore[arg-type]  # nothing is sent here
            registry_key=registry.public_key(),
            now_s=lambda: 0.0,
            time_ms=lambda: NOW_MS,
        )
        self.outbox = Outbox(folder / "outbox.db", unit=UNIT, doors=("ward",), now_ms=lambda: NOW_MS)
        self.handler = unit_handler(
            self.agent,
            self.outbox,
            self.desk.public_key(),
            folder / "ledger",
            "ward",
            "software",
            self.scene.orders,
            PrintMail(self.folder, UNIT, self.signer, registry.public_key()),
        )

    def order(self, counter: int, arguments: dict[str, str | int | bytes]) -> tuple[str, str]:
        command = Command(UNIT, counter, NOW_MS, NOW_MS + 1000, "apply_threats", arguments)
        result = open_result(self.handler.take(command.signed(self.desk)), self.signer.public_key(), UNIT)
        return result.status, result.why


def test_a_list_is_taken_in_force_reported_and_on_record_and_an_older_one_is_not(tmp_path: Path) -> None:
    line = Line(tmp_path)
    with line.scene.watch, line.outbox:
        assert line.order(1, {"list": listed(4)}) == ("done", "none")
        assert line.threats.match(TOOL) is not None
        assert held_list(line.folder) == 4
        assert "THREATS_APPLIED on_request ward 1" in line.scene.unit.logged
        assert line.order(2, {"list": listed(3)}) == ("failed", "door_refused")
        assert line.threats.version == 4


@pytest.mark.parametrize("arguments", [{}, {"list": "text"}, {"list": b"x", "more": 1}])
def test_a_command_with_other_arguments_is_refused(
    tmp_path: Path, arguments: dict[str, str | int | bytes]
) -> None:
    line = Line(tmp_path)
    with line.outbox:
        assert line.order(1, arguments) == ("failed", "bad_arguments")
        assert line.order(2, {"list": b"no list"}) == ("failed", "fault")
