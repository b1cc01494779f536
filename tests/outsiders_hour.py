"""An outsider's hour at the facade: silent, slow, huge, racing, replaying, every format of ffmpeg.

Each attack runs while a caller who means well asks over a new connection twice a second. At the end the
facade answers, and nothing of a person who was registered and forgotten is in its memory.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from device.audio import load_utterance
from device.settings import Settings, models_dir
from tests.e2e.api_server import Searched, Server, served
from tests.speech import readings

HANGS_S = 5.0
"""Longer than this somebody hangs. How long they waited is printed: a figure of the machine."""


@dataclass
class Outsider:
    """Who attacks, and how long people who mean well waited meanwhile."""

    server: Server
    quick: bool
    recordings: Sequence[bytes]
    waits_s: list[float] = field(default_factory=list)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.bearer = self.server.token("--minutes", "60")

    def times(self, number: int) -> int:
        return max(4, number // 8) if self.quick else number

    def connect(self, address: str, *, tls: bool = False) -> socket.socket:
        plain = socket.create_connection(
            ("127.0.0.1", self.server.port), timeout=20, source_address=(address, 0)
        )
        if not tls:
            return self._open.enter_context(plain)
        context = ssl.create_default_context(cafile=str(self.server.tls.ca))
        context.load_cert_chain(self.server.client.certificate, self.server.client.key)
        return self._open.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))

    def hang_up(self) -> None:
        self._open.close()

    def post(self, path: str, body: dict[str, object]) -> httpx.Response:
        with self.server.caller(headers=self.bearer) as http:
            return http.post(path, json=body)

    def verify(self, tid: str, audio: bytes, **more: object) -> httpx.Response:
        coded = base64.b64encode(audio).decode()
        return self.post("/verify", {"tid": tid, "uid": "4711", "code": "1D3A", "audio": coded, **more})

    def ask(self) -> float:
        """How long a caller who means well waits for an answer over a new connection."""
        began_s = time.monotonic()
        with self.server.caller() as http:
            assert http.get("/healthz").status_code == 200
        return time.monotonic() - began_s

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                try:
                    self.waits_s.append(self.ask())
                except httpx.HTTPError as err:
                    self.waits_s.append(float("inf"))
                    print(f"somebody who means well was cut off: {err}", flush=True)
                stop.wait(0.5)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield
        finally:
            stop.set()
            watching.join()


def silent(outsider: Outsider) -> str:
    """Connections that say nothing, from eleven addresses."""
    count = outsider.times(1_100)
    for number in range(count):
        with contextlib.suppress(OSError):
            outsider.connect(f"127.0.0.{66 + number % 11}")
    time.sleep(2)
    outsider.hang_up()
    return f"{count} silent connections"


def half_headers(outsider: Outsider) -> str:
    """TLS, then a header that comes a byte at a time."""
    count = outsider.times(200)
    dripping = []
    for number in range(count):
        with contextlib.suppress(OSError):
            dripping.append(outsider.connect(f"127.0.0.{80 + number % 3}", tls=True))
    began_s = time.monotonic()
    while time.monotonic() - began_s < (3 if outsider.quick else 15):
        for connection in dripping:
            with contextlib.suppress(OSError):
                connection.send(b"X")
        time.sleep(0.3)
    outsider.hang_up()
    return f"{count} headers, a byte at a time"


def slow_bodies(outsider: Outsider) -> str:
    """Bodies that a caller with a token promises and does not send."""
    count = 150 if not outsider.quick else 135
    header = (
        "POST /verify HTTP/1.1\r\nHost: unit\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n"
        f"Authorization: {outsider.bearer['Authorization']}\r\n\r\n{{"
    ).encode()
    for number in range(count):
        with contextlib.suppress(OSError):
            outsider.connect(f"127.0.0.{90 + number % 3}", tls=True).sendall(header)
    time.sleep(1.5)
    answer = outsider.verify("slow", outsider.recordings[1])
    assert answer.status_code == 200, answer.text
    outsider.hang_up()
    return f"{count} bodies that do not come; a body that does is judged"


def huge(outsider: Outsider) -> str:
    """Lengths, depths and headers beyond every limit."""
    with outsider.server.caller(headers=outsider.bearer) as http:
        json_type = {"Content-Type": "application/json"}
        most = http.post("/verify", content=b"{" * (9 << 20), headers=json_type).status_code
        deep = http.post("/otp", content=b"[" * 8_000, headers=json_type).status_code
    with contextlib.suppress(httpx.HTTPError), outsider.server.caller() as http:
        http.get("/healthz", headers={"X-Much": "x" * 100_000})
    assert (most, deep) == (413, 400)
    return "9 MiB, 8,000 brackets, 100 kB of header"


def racing(outsider: Outsider) -> str:
    """One transaction many times at once: one judgement."""
    count = outsider.times(64)
    with ThreadPoolExecutor(16) as pool:
        every = list(pool.map(lambda _: outsider.verify("race", outsider.recordings[1]), range(count)))
    answers = {json.dumps(answer.json(), sort_keys=True) for answer in every if answer.status_code == 200}
    assert len(answers) == 1, answers
    return f"{count} at once, one answer"


def replaying(outsider: Outsider) -> str:
    """A code that was used, a body of another transaction."""
    code = outsider.post("/otp", {"tid": "once", "uid": "4711", "style": "code"}).json()["code"]
    audio = base64.b64encode(outsider.recordings[1]).decode()
    body: dict[str, object] = {"tid": "once", "uid": "4711", "audio": audio}
    first = outsider.post("/verify", body).json()
    again = outsider.post("/verify", body).json()
    other = outsider.post("/verify", body | {"uid": "4712"})
    assert code
    assert again == first
    assert other.status_code == 409
    return "the same again is the same answer, another person's is refused"


def formats(outsider: Outsider) -> str:
    """One recording in every container that ffmpeg writes."""
    if shutil.which("ffmpeg") is None:
        return "ffmpeg is missing: not tried"
    told = subprocess.run(["ffmpeg", "-hide_banner", "-muxers"], capture_output=True, text=True, check=True)
    lines = [line.split() for line in told.stdout.splitlines() if line.startswith("  E")]
    muxers = sorted(words[1].split(",")[0] for words in lines)
    chosen = ["wav", "flac", *muxers[:: max(1, len(muxers) // 24)]] if outsider.quick else muxers
    counts: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.wav")
        source.write_bytes(outsider.recordings[1])
        for muxer in chosen:
            out = Path(folder, f"out.{muxer}")
            command = ["ffmpeg", "-v", "quiet", "-y", "-i", str(source), "-f", muxer, str(out)]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, cwd=folder)
            if out.is_file() and 0 < out.stat().st_size < 4 << 20:
                answer = outsider.verify(f"format-{muxer}", out.read_bytes())
                assert answer.status_code in (200, 422), (muxer, answer.text)
                counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
    return f"{counts.get(200, 0)} judged, {counts.get(422, 0)} refused with a reason"


def remembered(searched: Searched, outsider: Outsider) -> list[int]:
    """Pieces of a person who was registered and forgotten, in the facade's memory."""
    pieces = []
    for content in outsider.recordings:
        samples = load_utterance(content, Settings().audio).wave().tobytes()
        for text in (content, base64.b64encode(content), samples):
            pieces += [text[at : at + 48] for at in (len(text) // 3 // 16 * 16, len(text) // 2 // 16 * 16)]
    return searched.counts(pieces)


ATTACKS: tuple[Callable[[Outsider], str], ...] = (
    *(silent, half_headers, slow_bodies),
    *(huge, racing, replaying, formats),
)


def hour(folder: Path, *, quick: bool, within_s: float) -> int:
    """Play it; prints a table. How many rows did not end as they must."""
    wrong = 0
    reader = readings("librivox", "transcription")
    recordings = [reader[number].path.read_bytes() for number in (0, 1, 2, 3)]
    with served(folder, models_dir()) as server:
        searched = Searched(server)
        outsider = Outsider(server, quick, recordings)
        coded = [base64.b64encode(recordings[number]).decode() for number in (0, 2, 3)]
        body: dict[str, object] = {"tid": "r", "uid": "forgotten-one", "audio": coded}
        assert outsider.post("/register", body).json()["outcome"] == "registered"
        with server.caller(headers=outsider.bearer) as http:
            assert http.delete("/people/forgotten-one").status_code == 200
        for attack in ATTACKS:
            outsider.waits_s.clear()
            try:
                with outsider.watched():
                    told = attack(outsider)
            except AssertionError as err:
                told, wrong = f"WRONG: {err}", wrong + 1
            finally:
                outsider.hang_up()
            longest_s = max(outsider.waits_s)
            if longest_s > within_s:
                told, wrong = f"TOO SLOW: {told}", wrong + 1
            print(f"{attack.__name__:<13} {told}; others waited {longest_s:.2f} s at most", flush=True)
        found = remembered(searched, outsider)
        last_s = min(outsider.ask() for _ in range(3))
        wrong += bool(any(found)) + (last_s > within_s)
        print(
            f"{'in the end':<13} answered in {last_s:.2f} s; pieces of the forgotten in memory: {sum(found)}"
        )
        searched.close()
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/outsiders-hour", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="an eighth of everything")
    parser.add_argument(
        "--within", type=float, default=HANGS_S, help="seconds after which a caller counts as hanging"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raise SystemExit(min(1, hour(Path(folder), quick=chosen.quick, within_s=chosen.within)))


if __name__ == "__main__":
    main()
