"""Pages of the operator guide, copied line by line: a registry from nothing, and a unit out of its box."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.secure_store import StoreSettings
from device.secure_store.hardware.sealing_policy import sign_policy
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.hardware.tpm import Tpm
from device.secure_store.software import SoftwareKeystore
from device.settings import models_dir
from device.state_folder import StateFolder
from sync.outbox import Outbox
from tests.e2e.site_world import RULES
from tests.sync.parts import DOORS, Clock, event
from tests.sync.services import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "operator"
SPEECH = "/usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb"
UNIT = "st-mary/icu-2"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that mosquitto's user may enter, with the command in its own bin."""
    folder = Path(tempfile.mkdtemp(prefix="ostiary-operator-"))
    folder.chmod(0o755)
    (folder / "bin").mkdir()
    command = folder / "bin" / "ostiary"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from device.cli import main; main()" "$@"\n')
    command.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def a_unit_that_has_run(state: Path) -> None:
    folder = StateFolder(state)
    folder.store.mkdir(parents=True)
    SoftwareKeystore(folder.store / "software").close()
    with Outbox(folder.audit_log, unit=UNIT, doors=DOORS, now_ms=Clock()) as log:
        for number in range(9):
            log.append(event(number))


def test_the_page_leads_from_nothing_to_an_export_that_verifies(place: Path) -> None:
    a_unit_that_has_run(place / "state")
    (place / "ostiary.toml").write_text(f'[door]\nunit = "{UNIT}"\n')
    said = follow("registry.md", place, place / "registry", {"8883": str(free_port())})
    assert "sound" in said
    assert "events 1 to 9" in said


def test_the_page_leads_a_unit_out_of_its_box_and_out_of_service(place: Path) -> None:
    authority = ec.generate_private_key(ec.SECP256R1())
    pem = authority.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (place / "policy-authority.pem").write_bytes(pem)
    desk = place / "desk"
    desk.mkdir()
    (desk / "rules.toml").write_text(RULES)
    (desk / "tenant.key").write_bytes(os.urandom(32))
    ports = {"8883": str(free_port()), "8444": str(free_port())}
    changes = {"--listen": f"--port {ports['8883']} --claims-port {ports['8444']} --listen", **ports}
    with SwTpm(place / "tpm") as tpm:
        values = Tpm(tpm.tcti, 0).pcr_values(StoreSettings().pcrs)
        (desk / "policy.json").write_text(json.dumps(sign_policy(authority, values, "release").to_json()))
        at = {"/root/": f"{place}/", "/media/usb/root": f"{place}/usb"}
        said = follow("provisioning.md", place, desk, {**changes, **at}, OSTIARY_PROVISION_TCTI=tpm.tcti)
    assert f"This is {UNIT}, door pharmacy. It is in its place" in said
    assert "the broker refuses what is revoked, and takes what is good" in said


def test_the_page_leads_one_unit_from_the_policy_key_to_an_attempt_that_is_written_down(place: Path) -> None:
    """Steps 3 to 8 and 10 of the guide. What systemd does, and the microphone, `scripts/try-package` tries:
    here recordings stand in for what `arecord` would hear.
    """
    recorder = place / "bin" / "arecord"
    recorder.write_text(f'#!/bin/sh\nfor to; do :; done\nexec cp "{SPEECH}-0${{READ}}0.wav" "$to"\n')
    recorder.chmod(0o755)
    (place / "etc").mkdir()
    at = {"/root/": f"{place}/", "/etc/ostiary/": f"{place}/etc/", "/run/ostiary/enrol": f"{place}/enrol"}
    # The five sentences differ: the loop of the page says which one it is.
    at["  arecord"] = "  READ=$(echo 87 88 89 92 93 | cut -d ' ' -f $n) arecord"
    settings = place / "etc" / "ostiary.toml"
    with SwTpm(place / "tpm") as tpm:
        here = {
            **os.environ,
            "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
            "OSTIARY_STATE_DIR": str(place / "state"),
            "OSTIARY_MODELS_DIR": str(models_dir()),
            "OSTIARY_CONFIG": str(settings),
            "OSTIARY_FIRST_BOOT_FILE": str(settings),
            "OSTIARY_FIRST_BOOT_TCTI": tpm.tcti,
            "PYTHONPATH": str(ROOT),
        }
        for number in (3, 4, 5, 6, 7, 8):
            script = step(number, at)
            done = run_patiently(f"echo pharmacy | ({script})" if number == 4 else script, place, here)
            assert done.returncode == 0, f"step {number}: {done.stdout}{done.stderr}"
        attempt = f'ostiary decide --door pharmacy --claim 4711 --phrase "some other words" {SPEECH}-0920.wav'
        refused = run_patiently(attempt, place, here)
        assert refused.returncode == 1, refused.stderr
        recent = run_patiently(step(10, at), place, here)
    assert "DENIED_PHRASE" in recent.stdout, recent.stdout + recent.stderr


def step(number: int, changes: dict[str, str]) -> str:
    """The commands of one step of the guide's first page."""
    text = (GUIDE / "README.md").read_text(encoding="utf-8")
    part = text.partition(f"\n## {number}. ")[2].partition("\n## ")[0]
    script = "".join(re.findall(r"```sh\n(.*?)```", part, re.S))
    assert script, f"step {number} has no commands"
    for old, new in changes.items():
        script = script.replace(old, new)
    return script


def follow(name: str, place: Path, folder: Path, changes: dict[str, str], **surroundings: str) -> str:
    """Run every block of a page, the services in the background; returns what was said."""
    text = (GUIDE / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        text = text.replace(old, new)
    blocks = re.findall(r"```(sh(?: service)?)\n(.*?)```", text, re.S)
    assert len(blocks) > 10
    environment = {
        **os.environ,
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "OSTIARY_STATE_DIR": str(place / "state"),
        "OSTIARY_CONFIG": str(place / "ostiary.toml"),
        "PYTHONPATH": str(ROOT),
        **surroundings,
    }
    here, said = place, ""
    services: list[tuple[str, subprocess.Popen[bytes]]] = []
    with contextlib.ExitStack() as stack:
        for kind, script in blocks:
            if kind == "sh service":
                log = stack.enter_context((place / f"service-{len(services)}.log").open("wb"))
                process = subprocess.Popen(
                    ["bash", "-c", script],
                    cwd=place,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                stack.callback(_end, process)
                services.append((script, process))
                continue
            done = run_patiently(script, here, environment)
            said += done.stdout
            logs = "".join(path.read_text() for path in place.glob("service-*.log"))
            assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}\n{logs}"
            here = folder
        for number, (script, process) in enumerate(services):
            told = (place / f"service-{number}.log").read_text(errors="replace")
            assert process.poll() is None, f"{script} ended with {process.poll()}\n{told[-4000:]}"
    return said


def run_patiently(script: str, here: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one block; again while a service that was started before it is not up yet."""
    deadline = time.monotonic() + 180
    while True:
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        not_yet = any(words in done.stderr for words in ("does not answer", "nobody looks after"))
        if done.returncode == 0 or not not_yet or time.monotonic() > deadline:
            return done
        time.sleep(0.5)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
