"""A door in a process of its own whose display shows phrases of which there are recordings.

Reads `UID<tab>WAV<tab>PHRASE` lines, prints one decision a line, and is killed rather than ended.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from device import app
from device.access.claims import Claim, ClaimKind
from device.audio import FileSource
from device.settings import Settings
from device.unit.assembly import open_unit
from tests.device.door.plain_door import PlainDoor
from tests.device.test_app import Recorder, saying


def main(state: str, models: str) -> None:
    with open_unit(Settings(), Path(state), Path(models)) as unit:
        door = PlainDoor("door-1", 5.0, lambda: unit.clock().monotonic_s, lambda _: None)
        for line in sys.stdin:
            uid, wav, phrase = line.rstrip("\n").split("\t")
            (decision,) = app.run(
                saying(unit, phrase),
                [Claim(ClaimKind.BADGE, uid)],
                FileSource(wav),
                "door-1",
                door,
                Recorder(),
                threading.Event(),
            )
            told = {"outcome": decision.outcome, "code": decision.code, "reason": decision.reason}
            print(json.dumps({**told, "locked": door.is_locked}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
