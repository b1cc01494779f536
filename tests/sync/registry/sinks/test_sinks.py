"""Alarms on their way out, over real sockets: a webhook and a mail server, with TLS, refusals and silence."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.certificates import Authority
from sync.registry.database.alarm_rows import MOST_AT_ONCE
from sync.registry.database.store import Store
from sync.registry.sinks import Delivery, Email, Sink, Webhook, load_sinks
from sync.registry.verification import Alarm
from tests.sync.mail_server import MailServer
from tests.sync.parts import START_MS
from tests.sync.services import NOW

TOKEN, PASSWORD = "sesame-4711", "pass-word-0815"
UNIT = unit_id("st-mary/icu-2")


class Hook:
    """An HTTP server that a test sets the mood of: a status to answer, or where to send the caller on."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.got: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.status, self.location = 200, ""
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(hook.status)
                if hook.location:
                    self.send_header("Location", hook.location)
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - where a careless client would follow to

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("pki"), NOW)


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    files = authority.issue("desk", NOW, hosts=("127.0.0.1", "localhost"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


@pytest.fixture
def hook(tls: ssl.SSLContext) -> Iterator[Hook]:
    made = Hook(tls)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.open(f"sqlite:///{tmp_path}/registry.db")
    yield made
    made.close()


def alarm(store: Store, number: int) -> None:
    made = Alarm("SPOOF_BURST", "critical", UNIT, f"SPOOF {number}", {"count": 5}, "pharmacy")
    with store.transaction() as db:
        store.raise_alarms(db, [made], START_MS + number)


def webhook(hook: Hook, authority: Authority, tmp_path: Path, **changes: Any) -> Webhook:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    fields = {"token_file": token, "ca": authority.folder / "ca.pem", "timeout_s": 1.0, **changes}
    return Webhook("desk", fields.pop("url", f"https://127.0.0.1:{hook.port}/hooks/{TOKEN}"), **fields)


def email(server: MailServer, authority: Authority, tmp_path: Path, **changes: Any) -> Email:
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    fields = {
        "user": "registry",
        "password_file": password,
        "ca": authority.folder / "ca.pem",
        "timeout_s": 1.0,
        **changes,
    }
    to = ("desk@example.org", "night@example.org")
    return Email("mail", "127.0.0.1", server.port, "registry@example.org", to, **fields)


def test_a_webhook_gets_each_alarm_once_over_tls_with_its_token(
    store: Store, hook: Hook, authority: Authority, tmp_path: Path
) -> None:
    alarm(store, 1)
    alarm(store, 2)
    delivery = Delivery(store, [webhook(hook, authority, tmp_path)])
    assert [delivery.step(START_MS, 0.0), delivery.step(START_MS, 1.0)] == [[], []]
    assert [body["evidence"] for _, body in hook.got] == [{"count": 5}, {"count": 5}]
    headers = hook.got[0][0]
    assert (headers["authorization"], headers["idempotency-key"]) == (f"Bearer {TOKEN}", "ostiary-alarm-1")


def test_a_sink_that_is_down_keeps_no_other_waiting_and_gets_everything_later(
    store: Store, hook: Hook, authority: Authority, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    hook.status = 503
    with MailServer(tls, "registry", PASSWORD) as mail:
        sinks = [webhook(hook, authority, tmp_path), email(mail, authority, tmp_path)]
        delivery = Delivery(store, sinks)
        alarm(store, 1)
        assert delivery.step(START_MS, 0.0) == ["the webhook desk answered 503"]
        assert len(mail.taken) == 1
        alarm(store, 2)
        assert delivery.step(START_MS, 0.1) == [], "it is given time"
        hook.status = 200
        assert delivery.step(START_MS, 400.0) == []
        assert [body["id"] for _, body in hook.got[1:]] == [1, 2]
        assert len(mail.taken) == 2, "what it had got it does not get again"


def test_a_grave_alarm_does_not_wait_behind_all_that_was_due_before_it(store: Store) -> None:
    class Slow:
        """While this sink takes the first of many warnings, something grave happens."""

        name = "slow"

        def __init__(self) -> None:
            self.got: list[str] = []

        def send(self, alarm_: Mapping[str, Any]) -> None:
            if not self.got:
                alarm(store, 1)
            self.got.append(alarm_["kind"])

    many = [Alarm("CLOCK", "warning", UNIT, f"CLOCK {n}", {}) for n in range(2 * MOST_AT_ONCE)]
    with store.transaction() as db:
        store.raise_alarms(db, many, START_MS)
    sink = Slow()
    delivery = Delivery(store, [sink])
    for second in range(3):
        delivery.step(START_MS, float(second))
    assert sink.got.index("SPOOF_BURST") == MOST_AT_ONCE
    assert len(sink.got) == 2 * MOST_AT_ONCE + 1


def test_pauses_between_tries_grow_and_are_capped(store: Store, hook: Hook, authority: Authority) -> None:
    hook.status = 500
    delivery = Delivery(
        store, [Webhook("desk", f"https://127.0.0.1:{hook.port}/", ca=authority.folder / "ca.pem")]
    )
    alarm(store, 1)
    for second in range(3600):
        delivery.step(START_MS, float(second))
    assert 12 <= len(hook.got) <= 120


def test_mail_goes_out_over_tls_with_a_login_and_names_the_alarm(
    authority: Authority, tls: ssl.SSLContext, store: Store, tmp_path: Path
) -> None:
    with MailServer(tls, "registry", PASSWORD) as mail:
        alarm(store, 1)
        assert Delivery(store, [email(mail, authority, tmp_path)]).step(START_MS, 0.0) == []
        (message,) = mail.taken
        assert "Subject: [ostiary critical] SPOOF_BURST st-mary/icu-2" in message
        assert "Message-ID: <ostiary-alarm-1@example.org>" in message
        assert not any("AUTH" in line or "RCPT" in line for line in mail.heard), "in the clear"


def test_a_machines_own_relay_needs_no_tls(store: Store) -> None:
    with MailServer() as mail:
        alarm(store, 1)
        sink = Email("mail", "127.0.0.1", mail.port, "r@example.org", ("d@example.org",), starttls=False)
        assert Delivery(store, [sink]).step(START_MS, 0.0) == []
        assert len(mail.taken) == 1


def refusals(case: str, hook: Hook, mail: MailServer, authority: Authority, tmp_path: Path) -> Sink:
    """A sink that cannot deliver, for a reason of its own."""
    stranger = Authority.open(tmp_path / "strange", NOW).folder / "ca.pem"
    if case == "answers 500":
        hook.status = 500
        return webhook(hook, authority, tmp_path)
    if case == "sends us on":
        hook.status, hook.location = 302, f"https://127.0.0.1:{hook.port}/elsewhere"
        return webhook(hook, authority, tmp_path)
    if case == "certificate of a stranger":
        return webhook(hook, authority, tmp_path, ca=stranger)
    if case == "nobody listens":
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        return webhook(hook, authority, tmp_path, url=f"https://127.0.0.1:{port}/{TOKEN}")
    if case == "says nothing":
        mail.silent = True
        return webhook(hook, authority, tmp_path, url=f"http://127.0.0.1:{mail.port}/{TOKEN}", timeout_s=0.2)
    if case == "no token":
        return webhook(hook, authority, tmp_path, token_file=tmp_path / "gone")
    if case == "mail: wrong password":
        mail.password = "another"
    elif case == "mail: no such recipient":
        mail.mood = 550
    elif case == "mail: without tls":
        mail.tls = None
    elif case == "mail: says nothing":
        mail.silent = True
        return email(mail, authority, tmp_path, timeout_s=0.2)
    elif case == "mail: certificate of a stranger":
        return email(mail, authority, tmp_path, ca=stranger)
    return email(mail, authority, tmp_path)


@pytest.mark.parametrize(
    "case",
    [
        "answers 500",
        "sends us on",
        "certificate of a stranger",
        "nobody listens",
        "says nothing",
        "no token",
        "mail: wrong password",
        "mail: no such recipient",
        "mail: without tls",
        "mail: says nothing",
        "mail: certificate of a stranger",
    ],
)
def test_what_is_not_delivered_is_said_in_one_line_without_secrets_and_stays_due(
    case: str, store: Store, hook: Hook, authority: Authority, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    alarm(store, 1)
    with MailServer(tls, "registry", PASSWORD) as mail:
        sink = refusals(case, hook, mail, authority, tmp_path)
        (problem,) = Delivery(store, [sink]).step(START_MS, 0.0)
        assert "\n" not in problem
        for secret in (TOKEN, PASSWORD, "another", "hooks"):
            assert secret not in problem
        assert TOKEN not in repr(sink)
        assert len(store.undelivered(sink.name)) == 1
        assert mail.taken == []
        if case == "sends us on":
            assert len(hook.got) == 1, "and it did not follow"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[[sink]]\ntype = "webhook"\nurl = "http://example.org/"\n', "https"),
        ('[[sink]]\ntype = "pigeon"\n', "webhook, email"),
        ('[[sink]]\ntype = "email"\nhost = "x"\nport = 25\nsender = "a@b"\nto = []\n', "nobody"),
        ('[[sink]]\ntype = "email"\nhost = "x"\nport = 25\nsender = "a@b"\n', "to"),
        (
            '[[sink]]\ntype = "email"\nhost = "x"\nport = 25\nsender = "a@b"\nto = ["c@d"]\n'
            "starttls = false\n",
            "must use starttls",
        ),
        ('[[sink]]\ntype = "webhook"\nurl = "https://x/"\ncolour = "red"\n', "colour"),
        ("", "at least one"),
        ("[[sink\n", "cannot be used"),
    ],
)
def test_sinks_with_mistakes_are_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "sinks.toml"
    path.write_text(text)
    with pytest.raises(SyncError, match=why):
        load_sinks(path)


def test_sinks_are_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "sinks.toml"
    path.write_text(
        '[[sink]]\ntype = "webhook"\nurl = "https://desk.example/h"\ntoken_file = "/etc/ostiary/token"\n'
        '[[sink]]\ntype = "email"\nname = "night"\nhost = "mx"\nport = 587\nsender = "a@b"\nto = ["c@d"]\n'
    )
    assert [sink.name for sink in load_sinks(path)] == ["webhook-1", "night"]


def test_a_proxy_of_the_environment_gets_no_alarm_and_no_token(
    store: Store, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers are given HTTP_PROXY for what they download."""
    alarm(store, 1)
    desk, proxy = Hook(), Hook()
    try:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        plain = webhook(desk, authority, tmp_path, url=f"http://127.0.0.1:{desk.port}/")
        assert Delivery(store, [plain]).step(START_MS, 0.0) == []
        assert (len(desk.got), len(proxy.got)) == (1, 0)
        alarm(store, 2)
        told = replace(plain, proxy=f"http://127.0.0.1:{proxy.port}")
        assert Delivery(store, [told]).step(START_MS, 0.0) == []
        assert (len(desk.got), len(proxy.got)) == (1, 1)
    finally:
        desk.close()
        proxy.close()
    with pytest.raises(SyncError, match="http://HOST:PORT"):
        replace(plain, proxy="proxy.example:3128")
