"""Alarms to a real broker and to a syslog server, and the signature that every sink can carry."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from sync.errors import ProofError, SyncError
from sync.fleet.certificates import Authority
from sync.registry.database.store import Store
from sync.registry.sinks import Delivery, Email, Syslog, Topic, Webhook, load_sinks
from sync.registry.sinks.syslog import cef
from sync.registry.sinks.trust import SIGNATURE, sign
from tests.sync.parts import START_MS
from tests.sync.registry.sinks.test_sinks import Hook, alarm, authority, hook, store, tls, webhook
from tests.sync.services import NOW, Mosquitto

__all__ = ["authority", "hook", "store", "tls"]  # fixtures

SECRET = "a secret of two machines"
ALARM = {
    "id": 7, "kind": "DOOR_ATTACKED", "severity": "critical", "unit": "st-mary/icu-1", "site": "st-mary",
    "door": "door-1", "times": 2, "raised_ms": START_MS, "last_ms": START_MS + 5, "evidence": {"count": 2},
}  # fmt: skip


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    return path


class SyslogServer:
    """Takes octet-counted messages over TLS, one connection after the other."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.got: queue.Queue[bytes] = queue.Queue()
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                stream, _ = self._socket.accept()
            except OSError:
                return
            try:
                if self._context is not None:
                    stream = self._context.wrap_socket(stream, server_side=True)
                data = b""
                while more := stream.recv(4096):
                    data += more
                length, _, rest = data.partition(b" ")
                assert int(length) == len(rest)
                self.got.put(rest)
                stream.close()
            except (OSError, ValueError):
                stream.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def syslog(tls: ssl.SSLContext) -> Iterator[SyslogServer]:
    made = SyslogServer(tls)
    yield made
    made.close()


def test_a_syslog_server_gets_cef_over_tls_signed(
    syslog: SyslogServer, authority: Authority, secret_file: Path
) -> None:
    sink = Syslog(
        "siem",
        "127.0.0.1",
        syslog.port,
        ca=authority.folder / "ca.pem",
        secret_file=secret_file,
        timeout_s=20,
    )
    sink.send(ALARM)
    line = syslog.got.get(timeout=180).decode()
    head, _, rest = line.partition(" - CEF:0|Ostiary|registry|")
    assert head.startswith("<82>1 20")  # authpriv, critical
    assert head.endswith(" ostiary - DOOR_ATTACKED")
    assert "|DOOR_ATTACKED|Door attacked|10|externalId=7 " in rest
    assert "dvchost=st-mary/icu-1" in rest
    body, _, signature = line[line.index("CEF:") :].partition(" cs2Label=signature cs2=")
    signature = signature.replace("\\=", "=")
    at = int(signature[2:].partition(",")[0])
    check_signature(SECRET.encode(), signature, body.encode(), at + 10)


def test_a_syslog_server_that_we_do_not_trust_gets_nothing(syslog: SyslogServer) -> None:
    with pytest.raises(SyncError, match="cannot be used"):
        Syslog("siem", "127.0.0.1", syslog.port, timeout_s=20).send(ALARM)
    assert syslog.got.empty()


def test_nobody_writes_a_second_line_or_field_into_cef() -> None:
    line = cef(ALARM | {"door": "x\n<82>1 CEF:0|a|b", "kind": "A|B\\", "evidence": {"a": "1 cs1=2\r\n"}})
    assert "\n" not in line
    assert "\r" not in line
    assert "|A\\|B\\\\|" in line
    assert "cs3=x <82>1 CEF:0|a|b" in line
    assert " cs1\\=2" in line


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path_factory.mktemp("broker"), authority, default=True)
    made.start()
    yield made
    made.remove()


def _listen(broker: Mosquitto, authority: Authority, topic: str) -> tuple[paho.Client, queue.Queue[Any]]:
    files = authority.issue("listener", NOW)
    got: queue.Queue[Any] = queue.Queue()
    ready = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.tls_set(str(files.ca), str(files.certificate), str(files.key))
    client.on_message = lambda _c, _u, message: got.put(message)
    client.on_subscribe = lambda *_: ready.set()
    client.on_connect = lambda *_: client.subscribe(topic, qos=1)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert ready.wait(180)
    return client, got


def _topic(broker: Mosquitto, authority: Authority, name: str, **more: Any) -> Topic:
    files = authority.issue(name, NOW)
    fields = {"port": broker.port, "certificate": files.certificate, "key": files.key, "ca": files.ca} | more
    return Topic("building", "127.0.0.1", "building/doors/alarms", timeout_s=30, **fields)


@pytest.mark.e2e
def test_a_broker_gets_each_alarm_with_its_signature(
    broker: Mosquitto, authority: Authority, secret_file: Path, store: Store
) -> None:
    client, got = _listen(broker, authority, "building/#")
    alarm(store, 1)
    sink = _topic(broker, authority, "registry", secret_file=secret_file)
    delivery = Delivery(store, [sink])
    assert delivery.step(START_MS, 0.0) == []
    assert delivery.step(START_MS, 1.0) == []
    message = got.get(timeout=180)
    assert got.empty()
    properties = dict(message.properties.UserProperty)
    assert json.loads(message.payload)["kind"] == "SPOOF_BURST"
    assert properties["Idempotency-Key"] == "ostiary-alarm-1"
    at = int(properties[SIGNATURE][2:].partition(",")[0])
    check_signature(SECRET.encode(), properties[SIGNATURE], message.payload, at)
    client.disconnect()
    client.loop_stop()


@pytest.mark.e2e
def test_a_broker_that_is_down_gets_the_alarm_later(
    broker: Mosquitto, authority: Authority, store: Store
) -> None:
    alarm(store, 1)
    delivery = Delivery(store, [_topic(broker, authority, "registry")])
    broker.kill()
    (problem,) = delivery.step(START_MS, 0.0)
    assert "building cannot be reached" in problem
    broker.start()
    client, got = _listen(broker, authority, "building/#")
    assert delivery.step(START_MS, 600.0) == []
    assert got.get(timeout=180).payload
    client.disconnect()
    client.loop_stop()


@pytest.mark.e2e
def test_a_broker_that_does_not_let_us_write_there_is_a_failure(tmp_path: Path, authority: Authority) -> None:
    strict = Mosquitto(tmp_path, authority, default=False)
    try:
        strict.start()
        with pytest.raises(SyncError, match="building refused it"):
            _topic(strict, authority, "st-mary/icu-1").send(ALARM)
    finally:
        strict.remove()


def test_a_webhook_and_a_mail_are_signed_too(
    store: Store, hook: Hook, authority: Authority, tmp_path: Path, secret_file: Path, tls: ssl.SSLContext
) -> None:
    webhook(hook, authority, tmp_path, secret_file=secret_file, timeout_s=20.0).send(ALARM)
    headers, body = hook.got[0]
    signature = headers[SIGNATURE.lower()]
    at = int(signature[2:].partition(",")[0])
    check_signature(SECRET.encode(), signature, json.dumps(body).encode(), at)


def check_signature(key: bytes, header: str, body: bytes, now_s: int) -> None:
    """As a receiver does it. Raises ProofError for another secret, another body, or an old message."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    when = parts.get("t", "")
    if not when.isdigit() or abs(now_s - int(when)) > 300:
        raise ProofError("a message that is not from now")
    right = hmac.new(key, f"{when}.".encode() + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(right, parts.get("v1", "")):
        raise ProofError("a message with a wrong signature")


def test_a_signature_holds_for_one_body_one_key_and_five_minutes(secret_file: Path) -> None:
    header = sign(secret_file, b"body", 1000)
    check_signature(SECRET.encode(), header, b"body", 1299)
    for key, body, now_s in ((SECRET, b"other", 1000), ("x" * 24, b"body", 1000), (SECRET, b"body", 1301)):
        with pytest.raises(ProofError):
            check_signature(key.encode(), header, body, now_s)
    for spoilt in ("", "t=1000", header.replace("t=1000", "t=1001"), "v1=x,t=x"):
        with pytest.raises(ProofError):
            check_signature(SECRET.encode(), spoilt, b"body", 1000)
    secret_file.write_text("short")
    with pytest.raises(SyncError, match="at least 16"):
        sign(secret_file, b"body", 1000)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Syslog("far", "siem.example", tls=False),
        lambda: Topic("far", "broker.example", "a", tls=False),
        lambda: Topic("wild", "broker.example", "a/#"),
        lambda: Webhook("far", "http://desk.example/"),
        lambda: Email("far", "mail.example", 25, "a@b", ("c@d",), starttls=False),
    ],
)
def test_nothing_leaves_this_machine_in_the_clear(make: Any) -> None:
    with pytest.raises(SyncError):
        make()


def test_a_file_of_sinks_names_all_four(tmp_path: Path) -> None:
    path = tmp_path / "sinks.toml"
    path.write_text(
        '[[sink]]\ntype = "webhook"\nurl = "https://desk.example/x"\nsecret_file = "/s"\n'
        '[[sink]]\ntype = "email"\nhost = "mail.example"\nport = 587\nsender = "a@b"\nto = ["c@d"]\n'
        '[[sink]]\ntype = "mqtt"\nhost = "broker.example"\ntopic = "alarms"\n'
        '[[sink]]\ntype = "syslog"\nhost = "siem.example"\n'
    )
    assert [type(sink).__name__ for sink in load_sinks(path)] == ["Webhook", "Email", "Topic", "Syslog"]
    path.write_text('[[sink]]\ntype = "pigeon"\n')
    with pytest.raises(SyncError, match="webhook, email, mqtt, syslog"):
        load_sinks(path)
