"""No process of the product calls anybody or writes anything that docs/threat-model.md does not list.

A library may do so by itself: ONNX Runtime 1.31 looks up a collector's name within 10 s of its import and
keeps a device id below the home folder. So the real processes are watched from outside.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from device.settings import models_dir
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from tests.e2e.sound_server import SoundServer, require_sound
from tests.e2e.watched import Watched, door_folders, door_peers, opened
from tests.speech import Reading, require_tools
from tests.sync.services import Mosquitto, free_port

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.e2e
OSTIARY = [sys.executable, "-c", "from device.cli import main; main()"]
SWITCH = "ORT_DISABLE_TELEMETRY"
WATCHED_S = 15.0
"""From when the slowest process is ready; ONNX Runtime's first call came 10 s after its import."""


@dataclass(frozen=True)
class Place:
    """One unit's folders and settings, and a home folder that nothing may write to."""

    folder: Path
    environment: dict[str, str]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def home(self) -> Path:
        return Path(self.environment["HOME"])

    def watch(self, name: str, *arguments: object) -> Watched:
        return Watched(self.folder / name, [*OSTIARY, *map(str, arguments)], self.environment)


@pytest.fixture(scope="module")
def sound() -> Iterator[SoundServer]:
    require_sound()
    with SoundServer() as running:
        yield running


@pytest.fixture(scope="module")
def place(sound: SoundServer, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("watched")
    given = {
        name: value for name, value in sound.environment.items() if not name.startswith(("XDG_C", "ORT_"))
    }
    environment = {
        **given,
        "OSTIARY_STATE_DIR": str(folder / "state"),
        "OSTIARY_MODELS_DIR": str(models_dir().absolute()),
        "OSTIARY_CONFIG": str(folder / "ostiary.toml"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    now = dt.datetime.now(dt.UTC)
    tls = Authority.open(folder / "pki", now).issue("api", now, hosts=("127.0.0.1",))
    (folder / "ostiary.toml").write_text(
        "[store]\nprofile = 'laptop'\nkeystore = 'software'\n"
        f"[door]\nunit = 'site-1/unit-1'\n[feedback]\npage = '{folder}/page/door.html'\n"
        f"[api]\nport = {free_port()}\ncertificate = '{tls.certificate}'\nkey = '{tls.key}'\n"
        f"client_ca = '{tls.ca}'\n"
    )
    return Place(folder, environment)


def test_every_package_that_opens_models_silences_the_runtime_before_it_is_loaded() -> None:
    unset = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    for package in ("device", "quantize", "tests"):
        script = f"import {package}, os, sys; print('onnxruntime' in sys.modules, os.environ[{SWITCH!r}])"
        found = subprocess.run([sys.executable, "-c", script], env=unset, capture_output=True, text=True)
        assert found.stdout.split() == ["False", "1"], found.stderr
    imports = re.compile(r"^(import onnxruntime|from onnxruntime)", re.MULTILINE)
    loose = [
        path.relative_to(REPOSITORY).parts[0]
        for folder in ("bench", "device", "quantize", "research", "sync", "tests", "scripts")
        for path in (REPOSITORY / folder).rglob("*.py")
        if imports.search(path.read_text())
    ]
    assert set(loose) <= {"device", "quantize", "tests"}, "a script imports `ort` from the sessions module"


def test_the_watch_sees_a_process_that_calls_out_and_writes_at_home(tmp_path: Path) -> None:
    script = (
        "import pathlib, socket, os; pathlib.Path('cookie').write_text('x'); os.mkdir('sub')\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', 9))\n"
        "open('/etc/resolv.conf').read()"
    )
    seen = Watched(tmp_path / "w", [sys.executable, "-c", script], dict(os.environ)).ended()
    assert seen.peers == {"inet 127.0.0.1:9"}
    assert seen.families == {"AF_INET"}
    assert seen.name_service == {"/etc/resolv.conf"}
    assert {tmp_path / "w" / "cwd" / name for name in ("cookie", "sub")} <= seen.written


def test_a_call_that_strace_cut_in_two_is_read_as_one() -> None:
    trace = (
        '7 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.1")}, 16'
        " <unfinished ...>\n8 exit(0) = ?\n7 <... connect resumed>) = 0\n"
    )
    assert opened(trace, Path("/")).peers == {"inet 10.0.0.1:53"}


def test_commands_that_open_models_call_nobody_and_write_only_to_the_units_folder(
    place: Place, reader: list[Reading]
) -> None:
    recordings = [reader[n].path for n in (0, 2, 3)]
    for name, arguments in (
        ("enroll", ("enroll", "4711", *recordings)),
        (
            "decide",
            ("decide", "--door", "door-1", "--claim", "4711", "--phrase", "ten of clubs", reader[4].path),
        ),
    ):
        watched = place.watch(name, *arguments)
        seen = watched.ended()
        assert watched.process.returncode in (0, 1), watched.output
        assert (seen.families, seen.peers, seen.name_service) == (set(), set(), set()), name
        assert seen.outside(place.state) == set(), name


def test_processes_that_stay_open_only_the_sockets_and_files_that_are_listed(
    place: Place, sound: SoundServer, reader: list[Reading], tmp_path: Path
) -> None:
    require_tools(("mosquitto",), "mosquitto")
    now = dt.datetime.now(dt.UTC)
    subprocess.run(
        [*OSTIARY, "enroll", "4712", *(str(reader[n].path) for n in (0, 2, 3))],
        env=place.environment, check=True, capture_output=True,
    )  # fmt: skip
    authority = Authority.open(place.folder / "pki", now)
    broker = Mosquitto(tmp_path, authority, default=False)
    broker.start()
    unit = authority.issue("site-1/unit-1", now)
    receipts = tmp_path / "receipts.pem"
    receipts.write_bytes(FileSigner.load_or_create(tmp_path / "receipts.key").public_pem())
    (place.folder / "page").mkdir()
    door = place.watch("run", "run", "--verbose")
    facade = place.watch("api", "api", "serve")
    sender = place.watch(
        "sync", "sync", "--broker", f"127.0.0.1:{broker.port}", "--registry-key", receipts,
        "--ca", unit.ca, "--cert", unit.certificate, "--key", unit.key,
    )  # fmt: skip
    try:
        door.shows("Show your badge")
        door.types("4712")
        door.shows("Please say: ")
        sound.play(reader[4].path)
        door.shows("stays locked")
        facade.shows("https?://|ready|listening|serv")
        time.sleep(WATCHED_S)
    finally:
        seen = {name: process.stop() for name, process in (("run", door), ("api", facade), ("sync", sender))}
        broker.remove()
    port = (place.folder / "ostiary.toml").read_text().split("port = ")[1].split("\n")[0]
    expected = {
        "run": door_peers(place.environment["XDG_RUNTIME_DIR"]),
        "api": {f"inet 127.0.0.1:{port}"},
        "sync": {f"inet 127.0.0.1:{broker.port}", "inet 0.0.0.0:0"},  # the second: any port of its own
    }
    for name, found in seen.items():
        assert found.peers <= expected[name], name
        assert found.families <= ({"AF_UNIX"} if name == "run" else {"AF_INET"}), name
        assert found.name_service == set(), name
        folders = door_folders(place.state, place.folder / "page") if name == "run" else (place.state,)
        assert found.outside(*folders) == set(), name
