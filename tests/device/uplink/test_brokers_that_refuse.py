"""What `ostiary sync` says of what answers in a broker's place: a real socket, with real TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from device.uplink.cli import sync
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.outbox import Outbox
from tests.sync.parts import DOORS, UNIT, Clock, event
from tests.sync.services import NOW


class Answering:
    """Answers the first thing that each client says with the same bytes, then waits until the client goes."""

    def __init__(self, site: Authority, answer: bytes, tls: ssl.TLSVersion | None) -> None:
        self._context = None
        if tls is not None:
            files = site.issue("broker", NOW, hosts=("localhost",))
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.ca))
            self._context.load_cert_chain(str(files.certificate), str(files.key))
            self._context.maximum_version = tls
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Answering:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), client:
                client.settimeout(30)
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        talking = self._context.wrap_socket(client, server_side=True) if self._context else client
        with talking:
            if talking.recv(4_096) and self._answer:
                talking.sendall(self._answer)
                while talking.recv(4_096):
                    pass


@pytest.fixture
def site(tmp_path: Path) -> Authority:
    with Outbox(tmp_path / "audit.db", unit=UNIT, doors=DOORS, now_ms=Clock()) as outbox:
        outbox.append(event(1))
    (tmp_path / "receipts.pem").write_bytes(FileSigner.generate().public_pem())
    return Authority.open(tmp_path / "pki", NOW)


def said(site: Authority, answer: bytes, tls: ssl.TLSVersion | None = ssl.TLSVersion.TLSv1_3) -> str:
    folder, files = site.folder.parent, site.issue(UNIT, NOW)
    with Answering(site, answer, tls) as there:
        words = ["--unit", UNIT, "--outbox", folder / "audit.db", "--broker", f"localhost:{there.port}"]
        words += ["--ca", files.ca, "--cert", files.certificate, "--key", files.key]
        words += ["--registry-key", folder / "receipts.pem", "--audit-key", folder / "audit.key"]
        ended = CliRunner().invoke(sync, [str(word) for word in (*words, "--once", "--timeout", "3")])
    assert ended.exit_code == 1
    return ended.output


def connack(reason: int) -> bytes:
    return bytes([0x20, 3, 0, reason, 0])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (connack(0x84), "speaks no MQTT 5"),
        (connack(0x85), "refuses this unit's name as a client's"),
        (connack(0x87), "knows our certificate and lets us in nowhere"),
        (connack(0x89), "has no room for us now"),
        (connack(0x8A), "has banned this unit"),
        (connack(0x9D), "sends us to another one"),
        (connack(0x95), "the broker refuses us (Packet too large); its log says why"),
        (b"\x20\x02\x00\x05", "speaks no MQTT 5"),
        (bytes(100), "speaks no MQTT 5"),
    ],
    ids=lambda given: given.hex()[:12] if isinstance(given, bytes) else "",
)
def test_the_reason_of_a_broker_that_refuses_is_told(
    site: Authority, answer: bytes, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / "state"))
    assert reason in said(site, answer)


@pytest.mark.parametrize(
    ("answer", "tls", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", None, "speaks no TLS; check the port"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", None, "speaks no TLS; check the port"),
        (b"\x20\x03\x00\x00\x00", None, "speaks no TLS; check the port"),
        (connack(0), ssl.TLSVersion.TLSv1_2, "the broker speaks no TLS 1.3"),
        (b"", None, "the connection was cut while it was made"),
    ],
    ids=["http", "ssh", "mqtt", "tls 1.2", "nothing"],
)
def test_what_is_no_broker_of_tls_1_3_is_told(
    site: Authority,
    answer: bytes,
    tls: ssl.TLSVersion | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / "state"))
    assert reason in said(site, answer, tls)
