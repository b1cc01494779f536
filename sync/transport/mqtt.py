"""The one module that speaks MQTT: many connections, one thread, mutual TLS 1.3, MQTT 5.

A `Reactor` owns the sockets. Call `poll` often from one thread: it connects, reads, writes, keeps alive,
reconnects with jittered backoff, and hands incoming messages to each `Link`. Nothing here is durable; the
outbox and the registry's receipts are.
"""

from __future__ import annotations

import logging
import math
import selectors
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from cryptography import x509
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from sync.errors import SyncError
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why
from sync.transport import tls_files
from sync.transport.backoff import Backoff
from sync.transport.connecting import HUNG_UP, OTHER_LANGUAGE, Validity, refused, turned_away, why

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
MISC_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the authority that we trust, our certificate and its key."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """One connection. The broker keeps nothing for us while we are away: see `Link.connect`."""

    host: str
    port: int
    client_id: str
    tls: TlsFiles | None
    keepalive_s: int = 30
    receive_maximum: int = 200
    max_message_bytes: int = 1 << 20
    trial: bool = False
    """Whether this connection only asks if it is let in: then a refusal is its answer, and no warning."""


@dataclass(frozen=True, slots=True)
class Message:
    """One incoming publication. `Link.done` acknowledges it to the broker."""

    topic: str
    payload: bytes
    mid: int
    connection: int


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.3 only: shows our certificate, checks theirs and its host name. Raises SyncError."""
    try:
        with tls_files.explained(files.certificate, files.key, files.ca):
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=files.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            tls_files.show(context, files.certificate, files.key)
    except SyncError as err:
        raise SyncError(f"{err}; or renew this machine's certificate") from err
    return context


def common_name(certificate: Path) -> str:
    """The name in a certificate (PEM). Raises SyncError."""
    try:
        names = x509.load_pem_x509_certificate(plain_bytes(certificate)).subject
        return str(names.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
    except (OSError, ValueError, IndexError) as err:
        raise SyncError(f"{certificate} is no certificate that can be read: {what_and_why(err)}") from err


class Link:
    """One MQTT session. Made by `Reactor.link`; used from the reactor's thread only."""

    def __init__(
        self,
        reactor: Reactor,
        settings: LinkSettings,
        subscriptions: Sequence[str],
        will: Will | None,
        context: ssl.SSLContext | None,
        backoff: Backoff,
        certificate: Callable[[], bytes] | None,
    ) -> None:
        self.settings = settings
        self.inbox: deque[Message] = deque()
        self.connected = False
        self.connections = 0
        self.failures = 0
        self._told = ""
        self.last_error = ""
        self._reactor = reactor
        self._subscriptions = tuple(subscriptions)
        self._certificate = certificate
        self._alert = ""
        self.backoff = backoff
        self.retry_at = 0.0
        client = paho.Client(
            CallbackAPIVersion.VERSION2, settings.client_id, protocol=paho.MQTTv5, manual_ack=True
        )
        if context is not None:
            client.tls_set_context(context)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(0)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_log = self._on_log
        client.on_socket_open = reactor.socket_opened
        client.on_socket_close = reactor.socket_closed
        client.on_socket_register_write = reactor.wants_write
        client.on_socket_unregister_write = reactor.written
        client.user_data_set(self)
        self.client = client

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        """Hand to the broker once connected. Only a receipt says that it arrived."""
        self.client.publish(topic, payload, qos=qos, retain=retain)

    def done(self, message: Message) -> None:
        """Acknowledge to the broker, which sends no more than `receive_maximum` before that."""
        if message.mid and self.connected and message.connection == self.connections:
            self.client.ack(message.mid, 1)

    def connect(self) -> None:
        """One try; on failure the next comes after the backoff.

        No session outlives its connection: mosquitto 2.0.11 lists those that do, damages the list at a
        reload, and dies of it (ADR 30). Both ends send again what was not answered.
        """
        self._alert = ""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0
        properties.ReceiveMaximum = self.settings.receive_maximum
        properties.MaximumPacketSize = self.settings.max_message_bytes
        try:
            self.client.connect(
                self.settings.host,
                self.settings.port,
                self.settings.keepalive_s,
                clean_start=False,
                properties=properties,
            )
        except (OSError, ValueError) as err:
            self.failed(why(err, self.settings.host, datetime.now(UTC)))

    def failed(self, reason: str) -> None:
        """Note and log why there is no connection: our own certificate or clock, else `reason`."""
        reason = self._certificate_trouble() or self._alert or reason
        self.connected = False
        self.failures += 1
        if reason != self._told:
            # Once, until it is another reason or there was a connection: a line a minute helps nobody.
            place = self.settings
            level = logging.DEBUG if place.trial else logging.WARNING
            log.log(level, "no connection to the broker %s:%d: %s", place.host, place.port, reason)
        self.last_error = self._told = reason
        self.retry_at = time.monotonic() + self.backoff.next_s()

    def validity(self) -> Validity | None:
        """Of our certificate as it is now; None without one that can be read."""
        try:
            return Validity.of(self._certificate()) if self._certificate is not None else None
        except (OSError, SyncError):
            return None

    def _certificate_trouble(self) -> str:
        validity, now = self.validity(), datetime.now(UTC)
        return validity.trouble(now) if validity is not None and not validity.good(now) else ""

    def _on_log(self, _client: paho.Client, _data: Any, _level: int, text: str) -> None:
        """Paho passes on the TLS alert of a connection that breaks in its log only."""
        self._alert = refused(text) or self._alert

    def _on_connect(
        self, client: paho.Client, _: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            self._alert = turned_away(reason.value, str(reason))
            self.failed(self._alert)
            return
        if self._told:
            log.warning("connected to the broker again")
            self._told = ""
        self.connected, self._alert = True, ""
        self.connections += 1
        self.backoff.reset()
        if self._subscriptions:
            client.subscribe([(name, SubscribeOptions(qos=1)) for name in self._subscriptions])

    def _on_message(self, client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        mid = message.mid if message.qos else 0
        self.inbox.append(Message(message.topic, bytes(message.payload), mid, self.connections))


def publish_once(
    address: tuple[str, int],
    context: ssl.SSLContext | None,
    login: tuple[str, str | None],
    topic: str,
    payload: bytes,
    properties: Sequence[tuple[str, str]],
    timeout_s: float,
) -> None:
    """Publish one message and wait for the broker's acknowledgement.

    Raises SyncError, whose text goes on after the broker's name: "cannot be reached (...)".
    """
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    if context is not None:
        client.tls_set_context(context)
    if login[0]:
        client.username_pw_set(*login)
    more = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    more.UserProperty = list(properties)
    answers: list[ReasonCode] = []
    client.on_connect = lambda _c, _u, _f, code, _p: answers.append(code) if code.is_failure else None
    # A broker that knows us but not our right to this topic says so here.
    client.on_publish = lambda _c, _u, _m, code, _p: answers.append(code)
    client.connect_timeout = timeout_s
    try:
        client.connect(*address)
        client.loop_start()
        client.publish(topic, payload, qos=1, properties=more)
        deadline_s = time.monotonic() + timeout_s
        while not answers and time.monotonic() < deadline_s:
            time.sleep(0.01)
        if not answers:
            raise SyncError("did not take it in time")
        if answers[0].is_failure:
            raise SyncError(f"refused it ({answers[0]})")
    except (OSError, ValueError) as err:
        raise SyncError(f"cannot be reached ({type(err).__name__})") from None
    finally:
        client.disconnect()
        client.loop_stop()


class Reactor:
    """Sockets of any number of links. Not thread-safe: one thread polls and publishes."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._links: list[Link] = []
        self._misc_at = 0.0

    def link(
        self,
        settings: LinkSettings,
        *,
        subscriptions: Sequence[str] = (),
        will: Will | None = None,
        context: ssl.SSLContext | None = None,
        backoff: Backoff | None = None,
        certificate: Callable[[], bytes] | None = None,
    ) -> Link:
        """A new link; it connects on the next `poll`. `context` shares one TLS set-up between links;
        `certificate` reads ours (PEM) where no file holds it.
        """
        if settings.tls is not None:
            context = context or tls_context(settings.tls)
            certificate = certificate or settings.tls.certificate.read_bytes
        made = Link(self, settings, subscriptions, will, context, backoff or Backoff(), certificate)
        self._links.append(made)
        return made

    def poll(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for the network and serve it."""
        now = time.monotonic()
        if now >= self._misc_at:
            self._misc_at = now + MISC_EVERY_S
            for link in self._links:
                if link.client.socket() is not None:
                    self._checked(link, link.client.loop_misc())
        for link in self._links:
            if link.client.socket() is None and now >= link.retry_at:
                link.connect()
        for key, events in self._selector.select(timeout_s):
            link = key.data
            if events & selectors.EVENT_READ:
                self._read(link)
            if events & selectors.EVENT_WRITE and link.client.socket() is not None:
                self._checked(link, link.client.loop_write())

    def remove(self, link: Link) -> None:
        """Say goodbye on one link; the broker then sends no will."""
        link.connected, link.retry_at = False, math.inf  # we end it: that is no failure to tell of
        link.client.disconnect()
        if link.client.socket() is not None:
            link.client.loop_write()
        self._links.remove(link)

    def close(self) -> None:
        for link in list(self._links):
            self.remove(link)
        self._selector.close()

    def _read(self, link: Link) -> None:
        # TLS may have decrypted more than one read asked for; select() will not report that rest.
        while (sock := link.client.socket()) is not None:
            if not self._checked(link, link.client.loop_read()):
                return
            pending: Callable[[], int] | None = getattr(sock, "pending", None)
            if pending is None or not pending():
                return

    def _checked(self, link: Link, code: MQTTErrorCode) -> bool:
        if code == paho.MQTT_ERR_SUCCESS or code == paho.MQTT_ERR_AGAIN:
            return True
        before = OTHER_LANGUAGE if code == paho.MQTT_ERR_PROTOCOL else HUNG_UP
        link.failed(paho.error_string(code) if link.connected else before)
        return False

    def socket_opened(self, client: paho.Client, link: Any, sock: Any) -> None:
        self._selector.register(sock, selectors.EVENT_READ, link)

    def socket_closed(self, client: paho.Client, link: Any, sock: Any) -> None:
        self._selector.unregister(sock)
        if link.connected:
            link.failed("the broker closed the connection")
        elif link.retry_at <= time.monotonic():
            link.failed(HUNG_UP)

    def wants_write(self, client: paho.Client, link: Any, sock: Any) -> None:
        self._selector.modify(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, link)

    def written(self, client: paho.Client, link: Any, sock: Any) -> None:
        self._selector.modify(sock, selectors.EVENT_READ, link)
