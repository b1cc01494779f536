"""The uplink without a broker, with the wrong certificates, in the wrong year."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from pathlib import Path

from device.state_folder import StateFolder
from device.uplink.state import read
from sync.fleet.certificates import LEAF_DAYS, Authority
from sync.keys import FileSigner
from sync.transport.mqtt import TlsFiles
from tests.bad_world.world import OSTIARY, PATIENCE_S, Ended, NotCheckedError, Unit, World
from tests.sync.services import Mosquitto, free_port

TRIES = ("--once", "--timeout", "4")


def silent_uplink(world: World) -> Ended:
    """`ostiary sync` with each reason for which nothing is sent"""
    if shutil.which("mosquitto") is None:
        raise NotCheckedError("no broker: apt install mosquitto")
    now = dt.datetime.now(dt.UTC)
    folder = world.folder / "network"
    folder.mkdir()
    authority, strange = Authority.open(folder / "pki", now), Authority.open(folder / "strange", now)
    (folder / "receipts.pem").write_bytes(FileSigner.load_or_create(folder / "receipts.key").public_pem())
    good = authority.issue("site-1/unit-1", now)
    into = folder / "more"
    into.mkdir()
    expired = authority.issue("site-1/unit-1", now - dt.timedelta(days=LEAF_DAYS + 3), into=into)
    foreign_files = strange.issue("site-1/unit-1", now)
    foreign = TlsFiles(good.ca, foreign_files.certificate, foreign_files.key)
    mistrusting = TlsFiles(strange.folder / "ca.pem", good.certificate, good.key)
    broker = Mosquitto(folder, authority, default=False)
    broker.start()
    here = f"127.0.0.1:{broker.port}"
    try:
        unit = world.unit("uplink")
        cases: list[tuple[str, Unit, str, TlsFiles]] = [
            ("our certificate ran out on", unit, here, expired),
            ("does not trust the authority of our certificate", unit, here, foreign),
            ("of an authority that --ca does not hold", unit, here, mistrusting),
            ("of another name than 127.1", unit, f"127.1:{broker.port}", good),
            ("nothing listens there", unit, f"127.0.0.1:{free_port()}", good),
            ("cannot be looked up", unit, f"no-such-broker.invalid:{broker.port}", good),
        ]
        cases.append(("clock says 1970-01-01", unit.at("1970-01-01 00:01:00"), here, good))
        for told, tried, address, files in cases:
            said = sends(tried, address, files, folder, *TRIES)
            line = [one for one in said.splitlines() if "no connection to the broker" in one]
            assert len(line) == 1, f"one line, not {said!r}"
            assert told in line[0], line
            state = read(StateFolder(unit.state).uplink_state)  # what doctor shows
            assert state is not None
            assert state.trouble == "the uplink was stopped" or told in state.trouble, state
        soon = authority.issue("site-1/unit-1", now - dt.timedelta(days=LEAF_DAYS - 5), into=into)
        assert "our certificate ends in" in sends(unit, here, soon, folder, *TRIES)
        assert "our certificate ends in" in " ".join(unit.does("doctor").said.split())
        with unit.door("--source", world.sentence) as door:
            door.shows("Show your badge")
            door.end()
        assert "FAULT certificate_ends" in unit.events()
        assert "no connection" not in sends(unit, here, good, folder, *TRIES)
    finally:
        broker.remove()
    return Ended(
        f"the operator: {len(cases)} reasons, a line each, the same in doctor",
        "FAULT certificate_ends, 20 days before its end",
        "connects as soon as what the line names is mended; the door decides all the time",
    )


def sends(unit: Unit, broker: str, files: TlsFiles, folder: Path, *options: str) -> str:
    """What one run of `ostiary sync` says. There is no registry here, so nothing gets a receipt."""
    ran = subprocess.run(
        [
            *(*OSTIARY, "sync", "--broker", broker, "--ca", str(files.ca), "--cert", str(files.certificate)),
            *("--key", str(files.key), "--registry-key", str(folder / "receipts.pem"), *options),
        ],
        env=unit.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    assert ran.returncode == 1, ran.stderr
    return ran.stderr


SCENARIOS = (silent_uplink,)
