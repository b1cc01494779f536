"""The page as its own process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from sync.dashboard.serve import serve
from sync.registry.database.store import Store
from sync.service.terminated import Terminated
from tests.sync.dashboard.conftest import PASSWORD, Hospital
from tests.sync.services import free_port

pytestmark = pytest.mark.e2e
OSTIARY = [sys.executable, "-c", "from device.cli import main; main()", "dashboard"]


def _serve(database: str, port: int) -> tuple[subprocess.Popen[str], str]:
    """The process, and what it said up to the first administrator's link."""
    command = [*OSTIARY, "serve", "--database", database, "--address", f"http://127.0.0.1:{port}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said = ""
    for line in process.stderr or ():
        said += line
        if "/welcome/" in line:
            break
    return process, said


def test_the_first_administrator_gets_in_by_a_link_on_the_console_and_it_stops_at_once(
    tmp_path: Path,
) -> None:
    port = free_port()
    database = f"sqlite:///{tmp_path}/registry.db"
    Store.open(database).close()
    process, said = _serve(database, port)
    origin = f"http://127.0.0.1:{port}"
    link = next(word for word in said.split() if "/welcome/" in word)
    with httpx.Client(base_url=origin, headers={"Origin": origin}, timeout=180) as client:
        form = {"account": "first", "password": PASSWORD, "again": PASSWORD}
        assert client.post(link.removeprefix(origin), data=form).status_code == 303
        assert client.get("/accounts").status_code == 200
        assert client.post(link.removeprefix(origin), data=form).status_code == 400
        heard = threading.Event()

        def listen() -> None:
            with httpx.stream("GET", f"{origin}/stream", cookies=client.cookies, timeout=180) as answer:
                for _ in answer.iter_lines():
                    heard.set()

        page = threading.Thread(target=listen)
        page.start()
        assert heard.wait(180)
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 0
        page.join(180)
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_a_mistyped_address_makes_no_empty_registry(tmp_path: Path) -> None:
    process, said = _serve(f"sqlite:///{tmp_path}/registrry.db", free_port())
    assert process.wait(180) == 3
    assert "registry create" in said
    assert not (tmp_path / "registrry.db").exists()


def test_another_worker_takes_over_when_one_is_killed(hospital: Hospital) -> None:
    hospital.store.close()
    database = f"sqlite:///{hospital.folder}/registry.db"
    port = free_port()
    command = [*OSTIARY, "serve", "--database", database, "--address", f"http://127.0.0.1:{port}"]
    first, second = (
        subprocess.Popen([*command, "--listen", f"127.0.0.1:{p}"], stderr=subprocess.PIPE, text=True)
        for p in (port, free_port())
    )
    try:
        for process in (first, second):
            assert "The dashboard is at" in (process.stderr.readline() if process.stderr else "")
        other = str(second.args[-1])  # type: ignore[index]
        origin = f"http://127.0.0.1:{port}"
        with httpx.Client(headers={"Origin": origin, "Host": f"127.0.0.1:{port}"}, timeout=180) as client:
            login = client.post(f"{origin}/login", data={"account": "desk", "password": PASSWORD})
            cookie = login.headers["set-cookie"].partition(";")[0]
            first.kill()
            first.wait()
            # The proxy would send it to the other one: the session holds there too.
            answer = client.get(f"http://{other}/doors", headers={"Cookie": cookie})
            assert answer.status_code == 200
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def test_plain_http_is_for_this_machine_alone(tmp_path: Path) -> None:
    command = [
        *OSTIARY,
        "serve",
        "--database",
        f"sqlite:///{tmp_path}/r.db",
        "--address",
        "http://doors.example",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 3
    assert "plain http is for this machine alone" in done.stderr
    assert "Traceback" not in done.stderr


def test_demonstration_data_does_not_mix_with_a_real_registry(hospital: Hospital) -> None:
    hospital.store.close()
    command = [*OSTIARY, "demo-data", "--database", f"sqlite:///{hospital.folder}/registry.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 3
    assert "has units already" in done.stderr


def test_a_page_told_to_stop_before_it_listened_does_not_serve_on(hospital: Hospital) -> None:
    terminated, started = Terminated(), threading.Event()
    with contextlib.suppress(KeyboardInterrupt):  # as where Python drops it
        terminated(signal.SIGTERM, None)
    serve(
        hospital.backend(),
        host="127.0.0.1",
        port=free_port(),
        certificate=None,
        proxy=None,
        started=started.set,
        terminated=terminated,
    )
    assert started.is_set()
