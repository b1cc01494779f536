"""docs/operator/registry.md, copied line by line: from nothing to an export that an auditor verifies."""

from __future__ import annotations

import contextlib
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

from device.secure_store.software import SoftwareKeystore
from device.state_folder import StateFolder
from sync.outbox import Outbox
from tests.sync.parts import DOORS, Clock, event
from tests.sync.services import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
PAGE = Path(__file__).parents[2] / "docs" / "operator" / "registry.md"
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
    port = str(free_port())
    text = PAGE.read_text(encoding="utf-8").replace("8883", port)
    blocks = re.findall(r"```(sh(?: service)?)\n(.*?)```", text, re.S)
    assert len(blocks) > 10
    a_unit_that_has_run(place / "state")
    (place / "ostiary.toml").write_text(f'[door]\nunit = "{UNIT}"\n')
    environment = {
        **os.environ,
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "OSTIARY_STATE_DIR": str(place / "state"),
        "OSTIARY_CONFIG": str(place / "ostiary.toml"),
        "PYTHONPATH": str(PAGE.parents[2]),
    }
    here, services, said = place, [], ""
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
                services.append(process)
                time.sleep(1.0)
                continue
            done = subprocess.run(
                ["bash", "-ec", script],
                cwd=here,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            said += done.stdout
            assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
            here = place / "registry"
        assert [process.poll() for process in services] == [None] * len(services)
    assert "sound" in said
    assert "events 1 to 9" in said


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
