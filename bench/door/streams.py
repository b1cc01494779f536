"""Streams over the facade's WebSocket, at the speed of microphones: how many keep up, and what they cost.

    python -m bench.door.streams --wav talk.wav [--streams 20] [--seconds 60] [--uid 4711]

Starts a real `ostiary api serve --plain-http` on this machine's state folder and speaks to it as so many
callers. The delay is that of `heard` after the moment at which the last sample of a message would have left a
microphone. Processor time is the server's own.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Ping, RejectConnection, Request, TextMessage

from device.audio.recording import read_recording
from device.audio.settings import FileLimits

PORTION_S = 0.2


class Caller:
    """One connection."""

    def __init__(self, port: int, token: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 30.0)
        self._wire = WSConnection(ConnectionType.CLIENT)
        headers = [(b"Authorization", b"Bearer " + token.encode())]
        self._socket.sendall(self._wire.send(Request(f"127.0.0.1:{port}", "/stream", extra_headers=headers)))
        self._text = ""
        event = self._event()
        if isinstance(event, RejectConnection) or not isinstance(event, AcceptConnection):
            raise SystemExit(f"refused: {event}")

    def send(self, message: bytes | str) -> None:
        event = BytesMessage(message) if isinstance(message, bytes) else TextMessage(message)
        self._socket.sendall(self._wire.send(event))

    def receive(self) -> dict[str, object]:
        """The next message, whole."""
        while True:
            event = self._event()
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    whole, self._text = self._text, ""
                    return dict(json.loads(whole))
            else:
                raise SystemExit(f"the stream ended: {event}")

    def _event(self) -> object:
        while True:
            for event in self._wire.events():
                if isinstance(event, Ping):
                    self._socket.sendall(self._wire.send(event.response()))
                    continue
                return event
            self._wire.receive_data(self._socket.recv(65_536) or None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wav", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--uid", default="", help="Who should be speaking; enrolled before.")
    asked = parser.parse_args()
    sound = read_recording(asked.wav, FileLimits(max_s=3_600.0)).astype("<i2")
    sound = np.resize(sound, int(asked.seconds * 16_000))
    ostiary = [sys.executable, "-c", "from device.cli import main; main()"]
    token = subprocess.run(
        [*ostiary, "api", "token", "--client", "bench", "--scope", "stream", "--minutes", "30"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = subprocess.Popen([*ostiary, "api", "serve", "--plain-http", "--port", str(port)])
    try:
        _reachable(port)
        callers = [Caller(port, token) for _ in range(asked.streams)]
        for caller in callers:
            caller.send(json.dumps({"uid": asked.uid} if asked.uid else {}))
            caller.receive()
        before_s, began_s = _cpu_s(server.pid), time.monotonic()
        delays: list[float] = []
        threads = [
            threading.Thread(target=_speak, args=(caller, sound, delays, at * PORTION_S / asked.streams))
            for at, caller in enumerate(callers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s, cpu_s = time.monotonic() - began_s, _cpu_s(server.pid) - before_s
    finally:
        server.terminate()
        server.wait(30)
    print(
        json.dumps(
            {
                "streams": asked.streams,
                "seconds_each": asked.seconds,
                "took_s": round(took_s, 1),
                "cores_used": round(cpu_s / took_s, 2),
                "cpu_s_per_second_of_sound": round(cpu_s / (asked.streams * asked.seconds), 4),
                "delay_ms": {
                    f"p{share}": round(1e3 * float(np.percentile(delays, share))) for share in (50, 95, 99)
                },
                "cores": os.cpu_count(),
                "load_before_it_is_read": os.getloadavg()[0],
            }
        )
    )


def _speak(caller: Caller, sound: np.ndarray, delays: list[float], offset_s: float) -> None:  # type: ignore[type-arg]
    portion = int(PORTION_S * 16_000)
    time.sleep(offset_s)
    began_s = time.monotonic()
    for number, begin in enumerate(range(0, len(sound), portion), start=1):
        due_s = began_s + number * PORTION_S
        time.sleep(max(0.0, due_s - time.monotonic()))
        caller.send(sound[begin : begin + portion].tobytes())
        while "heard" not in caller.receive():
            pass
        delays.append(time.monotonic() - due_s)
    caller.send(json.dumps({"end": True}))
    while "done" not in caller.receive():
        pass


def _reachable(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the facade did not start")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
