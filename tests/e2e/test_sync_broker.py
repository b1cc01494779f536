"""Our broker configuration on a real mosquitto: who may do what, and what a stranger gets."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.certificates import LEAF_DAYS, Authority
from sync.keys import FileSigner
from sync.registry.ingest.worker import share_name, subscriptions
from sync.transport.backoff import Backoff
from sync.transport.mqtt import Link, LinkSettings, Reactor, TlsFiles, Will, tls_context
from sync.transport.topics import EVENTS, HEALTH, RECEIPTS, RESULTS, everyones, topic
from tests.sync.services import NOW, Mosquitto, free_port

pytestmark = pytest.mark.e2e
SHARE = share_name(FileSigner.generate())
ONE, TWO = unit_id("st-mary/icu-1"), unit_id("st-mary/icu-2")


class Site:
    def __init__(self, folder: Path) -> None:
        self.authority = Authority.open(folder / "pki", NOW)
        self.broker = Mosquitto(folder, self.authority, default=False)
        self.broker.start()
        self.reactor = Reactor()

    def link(self, name: str, *subscriptions: str, will: Will | None = None, client_id: str = "") -> Link:
        files = self.authority.issue(name, NOW)
        settings = LinkSettings("127.0.0.1", self.broker.port, client_id or name, files)
        made = self.reactor.link(settings, subscriptions=subscriptions, will=will)
        self.until(lambda: made.connected)
        self.settle(0.2)
        return made

    def until(self, done: object, seconds: float = 180.0) -> None:
        deadline = time.monotonic() + seconds
        while not done():  # type: ignore[operator]
            assert time.monotonic() < deadline
            self.reactor.poll(0.05)

    def settle(self, seconds: float = 0.7) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.reactor.poll(0.05)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.reactor.close()
    made.broker.remove()


def test_a_unit_writes_and_reads_under_its_own_name_only(site: Site) -> None:
    registry = site.link("worker-1", everyones(EVENTS, SHARE))
    one = site.link(ONE, topic(ONE, RECEIPTS), topic(TWO, RECEIPTS), "#")
    one.publish(topic(TWO, EVENTS), b"in another's name")
    one.publish(topic(ONE, RECEIPTS), b"a receipt to itself")
    one.publish(topic(ONE, EVENTS), b"its own")
    registry.publish(topic(ONE, RECEIPTS), b"for one")
    registry.publish(topic(TWO, RECEIPTS), b"for two")
    site.settle()
    assert [message.payload for message in registry.inbox] == [b"its own"]
    assert {message.payload for message in one.inbox} == {b"for one"}


def test_shared_subscriptions_give_each_message_to_one_worker(site: Site) -> None:
    workers = [site.link(f"worker-{n}", everyones(EVENTS, SHARE)) for n in (1, 2)]
    unit = site.link(ONE)
    for number in range(20):
        unit.publish(topic(ONE, EVENTS), bytes([number]))
    site.settle()
    for worker in workers:
        for message in worker.inbox:
            worker.done(message)
    got = sorted(message.payload[0] for worker in workers for message in worker.inbox)
    assert got == list(range(20))
    assert all(worker.inbox for worker in workers)


def test_a_unit_that_joins_shares_takes_nothing_away_from_the_workers(site: Site) -> None:
    """mosquitto lets anybody join a share and drops what it may not deliver: so the name is a secret."""
    worker, unit = site.link("worker-1", everyones(EVENTS, SHARE)), site.link(ONE)
    names = ("registry", "ostiary", "worker", "$share", "+", "#", SHARE[:-1], SHARE.upper(), "registry-")
    thief = site.link(TWO, *(everyones(EVENTS, name) for name in names if name not in ("+", "#")))
    for number in range(40):
        unit.publish(topic(ONE, EVENTS), bytes([number]))
    site.until(lambda: len(worker.inbox) == 40, 60.0)
    assert not thief.inbox


def test_a_client_that_asks_for_anothers_id_does_not_end_its_session(site: Site) -> None:
    worker = site.link("worker-1", everyones(EVENTS, SHARE))
    first = site.link(ONE, topic(ONE, RECEIPTS))
    for name in ("worker-1", ONE):
        site.link(TWO, client_id=name)
    first.publish(topic(ONE, EVENTS), b"still here")
    site.until(lambda: bool(worker.inbox), 60.0)
    assert (worker.connections, first.connections) == (1, 1)


def test_a_name_that_is_no_worker_and_no_unit_of_ours_reads_nothing(site: Site) -> None:
    for name in ("registry", "worker-99", "worker-1x"):
        stranger = site.link(name, everyones(EVENTS), everyones(EVENTS, SHARE))
        site.link(ONE).publish(topic(ONE, EVENTS), b"x")
        site.settle(0.3)
        assert not stranger.inbox


def test_workers_with_one_key_share_and_the_name_of_their_share_cannot_be_told_from_the_public_key(
    tmp_path: Path,
) -> None:
    signer, other = FileSigner.generate(), FileSigner.generate()
    (tmp_path / "key.pem").write_bytes(signer.private_pem())
    assert share_name(signer) == share_name(FileSigner.load(tmp_path / "key.pem")) != share_name(other)
    assert signer.public_pem().hex() not in share_name(signer)
    assert share_name(signer).removeprefix("registry-").isalnum()
    assert subscriptions(share_name(signer))[0].startswith("$share/registry-")


def test_the_will_tells_of_a_unit_that_fell_silent(site: Site) -> None:
    registry = site.link("worker-1", everyones(HEALTH))
    unit = site.link(ONE, will=Will(topic(ONE, HEALTH), b'{"state": "offline"}'))
    sock = unit.client.socket()
    assert sock is not None
    sock.shutdown(socket.SHUT_RDWR)
    site.until(lambda: bool(registry.inbox))
    assert registry.inbox[0].payload == b'{"state": "offline"}'


def test_an_oversized_message_costs_its_sender_the_connection_and_nobody_else(site: Site) -> None:
    registry = site.link("worker-1", everyones(EVENTS, SHARE))
    bad, good = site.link(ONE), site.link(TWO)
    bad.publish(topic(ONE, EVENTS), bytes(3 << 20))
    site.settle()
    good.publish(topic(TWO, EVENTS), b"still here")
    site.settle()
    assert [message.payload for message in registry.inbox] == [b"still here"]


def test_nobody_gets_in_without_a_certificate_of_our_authority(site: Site, tmp_path: Path) -> None:
    stranger = Authority.open(tmp_path / "strange", NOW).issue(ONE, NOW)
    files = TlsFiles(site.authority.folder / "ca.pem", stranger.certificate, stranger.key)
    settings = LinkSettings("127.0.0.1", site.broker.port, ONE, files)
    link = site.reactor.link(settings)
    site.settle(1.5)
    assert not link.connected
    assert link.last_error


def test_a_unit_that_cannot_connect_says_why_and_what_to_do_once(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = site.authority.issue(ONE, NOW)
    strange = Authority.open(tmp_path / "strange", NOW)
    expired = site.authority.issue(TWO, NOW - dt.timedelta(days=LEAF_DAYS + 1))
    young = site.authority.issue("st-mary/icu-3", NOW + dt.timedelta(days=9))  # as a clock of before sees one
    stranger = strange.issue(ONE, NOW)
    ca, port = site.authority.folder / "ca.pem", site.broker.port
    mistrusting = TlsFiles(strange.folder / "ca.pem", good.certificate, good.key)
    foreign = TlsFiles(ca, stranger.certificate, stranger.key)
    cases = {
        "nothing listens there; check the port": LinkSettings("127.0.0.1", free_port(), ONE, good),
        "cannot be looked up": LinkSettings("no-such-broker.invalid", port, ONE, good),
        "of an authority that --ca does not hold": LinkSettings("127.0.0.1", port, ONE, mistrusting),
        "of another name than 127.1": LinkSettings("127.1", port, ONE, good),
        "does not trust the authority of our certificate": LinkSettings("127.0.0.1", port, ONE, foreign),
        "our certificate ran out on": LinkSettings("127.0.0.1", port, TWO, expired),
        "and our certificate begins on": LinkSettings("127.0.0.1", port, unit_id("st-mary/icu-3"), young),
    }
    for advice, settings in cases.items():
        caplog.clear()
        link = site.reactor.link(settings, backoff=Backoff(0.05, 0.1))
        site.until(lambda link=link: link.failures >= 4, 60.0)  # type: ignore[misc]
        site.reactor.remove(link)
        said = [record.getMessage() for record in caplog.records if "no connection" in record.getMessage()]
        assert len(said) <= 2, f"not a line for every try: {said}"
        assert any(advice in line for line in said), said
        assert advice in link.last_error, "what `ostiary doctor` shows"


def test_a_link_that_we_end_ourselves_is_no_failure_to_tell_of(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    link = site.reactor.link(LinkSettings("127.0.0.1", site.broker.port, ONE, site.authority.issue(ONE, NOW)))
    site.until(lambda: link.connected, 60.0)
    caplog.clear()
    site.reactor.remove(link)
    assert (link.connected, link.failures, caplog.records) == (False, 0, [])


def test_a_unit_that_is_away_leaves_nothing_in_the_broker_that_a_reload_damages(site: Site) -> None:
    """mosquitto 2.0.11 lists a kept session of somebody who is away once more at each reload, frees it
    once, and dies of the rest some time later.
    """
    worker = site.link("worker-1")
    for _ in range(3):
        away = [
            site.link(unit_id(f"st-mary/icu-{n}"), topic(unit_id(f"st-mary/icu-{n}"), RECEIPTS))
            for n in (1, 2, 3)
        ]
        for link in away:
            site.reactor.remove(link)
        for _ in range(2):
            site.broker.reload()
            site.settle(0.2)
        worker.publish(topic(ONE, RECEIPTS), b"while it was away")
        site.settle(0.2)
        back = site.link(ONE, topic(ONE, RECEIPTS))
        site.settle(0.5)
        assert not back.inbox, "the broker kept a session"
        site.reactor.remove(back)
    site.settle(2.0)
    assert site.broker.ended_by is None
    assert worker.connections == 1


def keep_a_session(site: Site, name: str) -> None:
    """As no client of ours does: subscribe, and go with a session that is to last for a week."""
    client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTv5)
    client.tls_set_context(tls_context(site.authority.issue(name, NOW)))
    asked = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    asked.SessionExpiryInterval = 7 * 86_400
    subscribed = threading.Event()
    client.on_connect = lambda *_: client.subscribe(topic(unit_id(name), RECEIPTS), qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", site.broker.port, clean_start=False, properties=asked)
    client.loop_start()
    assert subscribed.wait(60)
    client.disconnect()
    client.loop_stop()


def test_a_broker_that_is_started_anew_has_everybody_back_and_bears_sessions_that_others_keep(
    site: Site,
) -> None:
    worker = site.link("worker-1", topic(ONE, RESULTS))
    unit = site.link(ONE, topic(ONE, RECEIPTS))
    took_s = []
    for again in range(2, 5):
        for name in ("st-mary/icu-2", "st-mary/icu-3"):
            keep_a_session(site, name)
        began = time.monotonic()
        site.broker.restart()
        site.until(lambda: (worker.connections, unit.connections) == (again, again), 60.0)  # noqa: B023
        took_s.append(time.monotonic() - began)
        heard = len(unit.inbox)
        until = time.monotonic() + 60.0
        while len(unit.inbox) == heard:  # once its subscription is there too
            assert time.monotonic() < until
            worker.publish(topic(ONE, RECEIPTS), b"back again")
            site.settle(0.2)
    print("away for", [f"{one:.2f} s" for one in took_s])
    assert site.broker.ended_by is None


def test_tls_before_1_3_is_refused(site: Site) -> None:
    context = tls_context(site.authority.issue(ONE, NOW))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", site.broker.port)) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_broker_with_another_host_name_is_not_believed(site: Site) -> None:
    files = site.authority.issue(ONE, NOW)
    link = site.reactor.link(LinkSettings("127.1", site.broker.port, ONE, files))  # the same place
    site.until(lambda: link.failures >= 1)
    assert not link.connected
    assert "of another name than 127.1" in link.last_error


def test_unusable_tls_files_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SyncError, match="renew"):
        tls_context(TlsFiles(tmp_path / "a", tmp_path / "b", tmp_path / "c"))
