"""The facade and the uplink as processes whose disk fails, and is well again."""

from __future__ import annotations

import base64
import errno
import re
import shutil
from pathlib import Path

import pytest

from tests.bad_world.failing_disk import FailingDisk, Fails
from tests.device.conftest import models as models
from tests.e2e.api_server import Server, served
from tests.speech import Reading, missing

pytestmark = pytest.mark.e2e

FAILURES = (
    ("read", Fails.READ, errno.EIO, "the disk does not give it"),
    ("write", Fails.WRITE, errno.ENOSPC, "the disk is full|no room left"),
    ("sync", Fails.SYNC, errno.EDQUOT, "no room left"),
    ("create", Fails.CREATE, errno.EROFS, ""),
    ("open", Fails.READ | Fails.OPEN, errno.ESTALE, "no longer knows it|does not give it"),
)


def asks(server: Server, headers: dict[str, str], reading: Reading, tid: str) -> int:
    audio = base64.b64encode(reading.path.read_bytes()).decode()
    body = {"tid": tid, "uid": "4711", "code": "1D3A", "audio": audio}
    with server.caller(headers=headers) as http:
        answer = http.post("/verify", json=body)
        assert answer.headers["content-type"].startswith("application/"), answer.text
        assert answer.json()["status"] in ("done", answer.status_code)
        return answer.status_code


def test_the_facade_says_that_it_kept_nothing_and_why_and_serves_again(
    tmp_path: Path, models: Path, reader: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("cc") is None:
        missing("a C compiler", "gcc")
    disk = FailingDisk(tmp_path, tmp_path / "state")
    for name, value in disk.environment().items():
        monkeypatch.setenv(name, value)
    with served(tmp_path, models) as server:
        headers = server.token()
        log = server.folder / "server.log"
        for what, at, number, why in FAILURES:
            before = len(log.read_text())
            disk.fail(at, number)
            code = asks(server, headers, reader[0], f"sick-{what}")
            disk.fail(Fails.NOTHING)
            told = log.read_text()[before:]
            assert code in (200, 500), (what, told)  # what it has in memory it goes on to answer from
            assert code == 500 or not at & (Fails.WRITE | Fails.SYNC), (what, told)
            assert "form that this version writes" not in told, told
            assert code == 200 or re.search(why, told), (what, told)
            assert asks(server, headers, reader[0], f"sick-{what}") == 200, "asked again, it is judged"
        assert server.process is not None
        assert server.process.poll() is None
        assert "Traceback" not in log.read_text()
