"""The facade as a process of its own: mutual TLS, many callers at once, kill -9, restart."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import itertools
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from sync.fleet.certificates import Authority
from tests.device.conftest import models as models
from tests.e2e.api_server import Server, served
from tests.speech import Reading

pytestmark = pytest.mark.e2e


@pytest.fixture
def server(tmp_path: Path, models: Path) -> Iterator[Server]:
    with served(tmp_path, models) as running:
        yield running


def asked(reading: Reading, tid: str) -> dict[str, str]:
    audio = base64.b64encode(reading.path.read_bytes()).decode()
    return {"tid": tid, "uid": "4711", "code": "1D3A", "audio": audio}


def test_without_a_certificate_of_our_authority_there_is_no_connection(
    server: Server, tmp_path: Path
) -> None:
    anonymous = ssl.create_default_context(cafile=str(server.tls.ca))
    with (
        httpx.Client(base_url=f"https://127.0.0.1:{server.port}", verify=anonymous) as http,
        pytest.raises(httpx.TransportError),
    ):
        http.get("/healthz")
    foreign = Authority.open(tmp_path / "other-ca", dt.datetime.now(dt.UTC))
    files = foreign.issue("pharmacy", dt.datetime.now(dt.UTC))
    with server.caller(files) as http, pytest.raises(httpx.TransportError):
        http.get("/healthz")


def test_a_token_can_be_tied_to_one_client_certificate(server: Server) -> None:
    bound = server.token("--certificate", str(server.client.certificate))
    with server.caller(headers=bound) as http:
        assert http.get("/results/1").status_code == 404
    authority = Authority.open(server.folder / "ca", dt.datetime.now(dt.UTC))
    other = authority.issue("laundry", dt.datetime.now(dt.UTC))
    with server.caller(other, headers=bound) as http:
        assert http.get("/results/1").status_code == 401
        assert http.get("/results/1", headers=server.token()).status_code == 404


@pytest.mark.parametrize("callers", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_many_callers_at_once_are_all_served(
    server: Server, other_reader: list[Reading], callers: int
) -> None:
    idle_mib = server.peak_mib()
    with server.caller(headers=server.token(), limits=httpx.Limits(max_connections=callers)) as http:

        def patiently(send: Callable[[], httpx.Response]) -> httpx.Response:
            """On a slow machine so many ask more often than one address may: they wait as they are told."""
            while (answer := send()).status_code == 429:
                time.sleep(float(answer.headers["retry-after"]))
            return answer

        def ask(number: int) -> httpx.Response:
            answer = patiently(lambda: http.post("/verify", json=asked(other_reader[0], f"t-{number}")))
            while answer.status_code == 202:
                time.sleep(float(answer.headers["retry-after"]))
                # A connection that was kept may end while the question is on its way: asked again, as any
                # client asks again what changes nothing (RFC 9110, 9.2.2).
                with contextlib.suppress(httpx.RemoteProtocolError):
                    answer = patiently(lambda: http.get(f"/results/t-{number}"))
            return answer

        with ThreadPoolExecutor(callers) as pool:
            answers = list(pool.map(ask, range(callers)))
        assert [answer.status_code for answer in answers] == [200] * callers
        assert all(answer.json()["outcome"] == "judged" for answer in answers)
        # In order: those who were finished earlier had waited since earlier.
        found = sorted(answers, key=lambda answer: str(answer.json()["finished_at"]))
        finished = [dt.datetime.fromisoformat(answer.json()["finished_at"]) for answer in found]
        arrived = [
            at - dt.timedelta(milliseconds=answer.json()["waited_ms"] + answer.json()["took_ms"])
            for at, answer in zip(finished, found, strict=True)
        ]
        # Wall clock and monotonic clock are not read at one moment, and a busy one pauses between
        slack = dt.timedelta(seconds=1)
        assert all(later >= earlier - slack for earlier, later in itertools.pairwise(arrived))
        assert "ostiary_api_waiting 0" in http.get("/metrics").text
    # One judgement needs working memory; what waits is small, and has a ceiling (`max_waiting_bytes`).
    assert server.peak_mib() - idle_mib < 200


def test_after_kill_9_each_transaction_is_answered_or_clearly_absent(
    server: Server, other_reader: list[Reading]
) -> None:
    headers, count = server.token(), 12
    told: dict[str, bytes] = {}

    def ask(number: int) -> None:
        with contextlib.suppress(httpx.TransportError), server.caller(headers=headers) as http:
            answer = http.post("/verify", json=asked(other_reader[0], f"t-{number}"))
            if answer.status_code == 200:
                told[f"t-{number}"] = answer.content
                if len(told) >= 3:
                    server.kill()

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(ask, number) for number in range(count)]
        for future in futures:
            future.result()
    assert 3 <= len(told) < count, "killed in the middle"
    server.start()
    with server.caller(headers=headers) as http:
        absent = 0
        for number in range(count):
            tid = f"t-{number}"
            answer = http.get(f"/results/{tid}")
            if answer.status_code == 404:
                assert tid not in told, "an answer that was given was lost"
                assert answer.json()["type"] == "urn:ostiary:problem:no-result"
                absent += 1
            else:
                assert answer.status_code == 200
                assert told.get(tid, answer.content) == answer.content
            again = http.post("/verify", json=asked(other_reader[0], tid))
            assert again.status_code == 200
            assert told.get(tid, again.content) == again.content
        assert absent >= 1


def test_who_is_enrolled_beside_it_is_known_at_once(server: Server, reader: list[Reading]) -> None:
    def ostiary(*arguments: object) -> None:
        command = [sys.executable, "-c", "from device.cli import main; main()", *map(str, arguments)]
        subprocess.run(command, env=server.environment, capture_output=True, check=True, timeout=180)

    with server.caller(headers=server.token()) as http:

        def enrolled(tid: str) -> tuple[bool, bool]:
            answer = http.post("/verify", json=asked(reader[1], tid)).json()
            return answer["enrolled"], (answer["evidence"]["speaker_llr"] or -1.0) > 3.0

        assert enrolled("before") == (False, False)
        ostiary("enroll", "4711", *(reader[n].path for n in (0, 2, 3)))
        assert enrolled("after") == (True, True)
        ostiary("forget", "4711")
        assert enrolled("forgotten") == (False, False)


def test_sigterm_ends_it_in_order(server: Server) -> None:
    assert server.process is not None
    server.process.terminate()
    assert server.process.wait(timeout=180) == 0
    assert "Traceback" not in (server.folder / "server.log").read_text()


def test_plain_http_is_refused_where_it_could_be_heard(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ostiary.toml").write_text("[store]\nprofile = 'laptop'\nkeystore = 'software'\n")
    for arguments in (("--plain-http", "--host", "0.0.0.0"), ()):  # noqa: S104 - that is the point
        done = subprocess.run(
            server.command("serve", *arguments), env=server.environment, capture_output=True, timeout=180
        )
        assert done.returncode == 3
        assert b"ostiary: " in done.stderr
        assert b"Traceback" not in done.stderr
