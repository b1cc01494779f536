"""Each reason for which there is no connection has a sentence of its own; the errors are OpenSSL's own."""

from __future__ import annotations

import datetime as dt
import errno
import logging
import os
import shlex
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from cryptography.hazmat.primitives import serialization

from sync.errors import SyncError
from sync.fleet.certificates import LEAF_DAYS, Authority
from sync.service.command_line import host_and_port
from sync.transport.connecting import REMIND_DAYS, Validity, refused, why
from sync.transport.mqtt import LinkSettings, Reactor, TlsFiles, tls_context
from tests.ports import free_port

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def errors(ours: TlsFiles, theirs: TlsFiles, trusted: Path, name: str) -> tuple[str, str]:
    """What the client's and the server's side of one TLS 1.3 handshake end with, in memory; "" for well."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(trusted))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(str(theirs.certificate), str(theirs.key))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        tls_context(ours).wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    ]
    told = ["", ""]
    for _ in range(6):
        for number, side in enumerate(sides):
            try:
                side.do_handshake()
                side.read(1)  # a client hears only now that it was refused
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as err:
                told[number] = told[number] or why(err, name, NOW)
    return told[0], told[1]


@pytest.fixture
def site(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "pki", NOW)


def test_a_broker_whose_certificate_ran_out_is_told_from_a_clock_that_is_wrong(site: Authority) -> None:
    ours, ca = site.issue("st-mary/icu-1", NOW), site.folder / "ca.pem"
    old = site.issue("old", NOW - (LEAF_DAYS + 2) * DAY, hosts=("broker",))
    assert errors(ours, old, ca, "broker")[0].startswith("the broker's certificate has run out")
    young = site.issue("young", NOW + 30 * DAY, hosts=("broker",))
    said = errors(ours, young, ca, "broker")[0]
    assert said.startswith("the broker's certificate is not good yet")
    assert f"{NOW:%Y-%m-%d}" in said
    assert said.endswith("set the clock")


def test_a_wrong_name_and_a_wrong_authority_are_two_sentences(site: Authority, tmp_path: Path) -> None:
    ours, broker = site.issue("st-mary/icu-1", NOW), site.issue("broker", NOW, hosts=("broker",))
    ca = site.folder / "ca.pem"
    assert errors(ours, broker, ca, "broker") == ("", "")
    assert "of another name than mqtt" in errors(ours, broker, ca, "mqtt")[0]
    assert "of another name than 127.0.0.1" in errors(ours, broker, ca, "127.0.0.1")[0]
    strange = Authority.open(tmp_path / "strange", NOW)
    mistrusting = TlsFiles(strange.folder / "ca.pem", ours.certificate, ours.key)
    assert "of an authority that --ca does not hold" in errors(mistrusting, broker, ca, "broker")[0]


def test_what_the_broker_says_of_our_certificate_is_understood(site: Authority, tmp_path: Path) -> None:
    broker, ca = site.issue("broker", NOW, hosts=("broker",)), site.folder / "ca.pem"
    expired = site.issue("st-mary/icu-2", NOW - (LEAF_DAYS + 2) * DAY)
    assert "says that our certificate has run out" in errors(expired, broker, ca, "broker")[0]
    strange = Authority.open(tmp_path / "strange", NOW).issue("st-mary/icu-3", NOW)
    foreign = TlsFiles(ca, strange.certificate, strange.key)
    assert "does not trust the authority of our certificate" in errors(foreign, broker, ca, "broker")[0]
    assert "was revoked" in refused("[SSL: SSLV3_ALERT_CERTIFICATE_REVOKED] sslv3 alert certificate revoked")
    assert refused("Received PINGRESP") == ""


@pytest.mark.parametrize(
    ("err", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name broker cannot be looked up"),
        (ConnectionRefusedError(), "nothing listens there"),
        (TimeoutError(), "no answer came in time"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "there is no way to broker"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "there is no way to broker"),
        (ConnectionResetError(), "the connection was cut while it was made"),
        (OSError(), "OSError"),
    ],
)
def test_what_the_network_says_is_one_sentence(err: OSError, said: str) -> None:
    assert why(err, "broker", NOW).startswith(said)


@pytest.mark.parametrize("host", ["a" * 64 + ".site", "broker..site", "."])
def test_a_name_that_is_no_name_is_told_in_plain_words(host: str) -> None:
    with pytest.raises(UnicodeError) as caught:
        socket.create_connection((host, 8883))
    assert why(caught.value, host, NOW) == f"the name {host} is none that can be looked up; check --broker"


def test_our_own_certificate_is_looked_at_by_this_machines_clock(site: Authority) -> None:
    validity = Validity.of(site.issue("st-mary/icu-1", NOW).certificate.read_bytes())
    assert validity.trouble(NOW) == ""
    born = validity.trouble(dt.datetime(1970, 1, 1, 0, 3, tzinfo=dt.UTC))
    assert born.startswith("this machine's clock says 1970-01-01 00:03 UTC")
    assert born.endswith("set the clock")
    assert "ends in 19 days" in validity.trouble(validity.ends - (REMIND_DAYS - 1) * DAY)
    assert validity.trouble(validity.ends + DAY).startswith("our certificate ran out on ")
    assert not validity.good(validity.ends)
    with pytest.raises(SyncError, match="cannot be read"):
        Validity.of(b"-----BEGIN NOTHING-----")


def test_each_file_that_holds_something_else_is_named_and_nothing_asks_for_a_pass_phrase(
    site: Authority, tmp_path: Path
) -> None:
    ours = site.issue("site-1/unit-1", NOW)
    other = site.issue("site-1/unit-2", NOW)
    certificate, key = Path(ours.certificate).read_bytes(), Path(ours.key).read_bytes()
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    der = ssl.PEM_cert_to_DER_cert(
        certificate.decode().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )

    def file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    for files, said in (
        (TlsFiles(ours.ca, file("c.der", der), ours.key), "c.der is DER; a certificate is taken as PEM"),
        (TlsFiles(ours.ca, file("empty.pem", b"\n"), ours.key), "empty.pem is empty; a certificate"),
        (TlsFiles(file("ca.pem", b""), ours.certificate, ours.key), "ca.pem is empty; a certificate of an"),
        (TlsFiles(ours.ca, ours.key, ours.certificate), "holds a private key; a certificate belongs there"),
        (TlsFiles(ours.ca, ours.certificate, file("l.key", locked)), "l.key is locked by a pass phrase"),
        (TlsFiles(ours.ca, ours.certificate, tmp_path / "none"), "none cannot be read (it is not there"),
        (
            TlsFiles(ours.ca, ours.certificate, tmp_path),
            "cannot be read (it is a folder, and a plain file belongs there)",
        ),
        (TlsFiles(ours.ca, ours.certificate, other.key), "do not belong together"),
    ):
        with pytest.raises(SyncError) as refusal:
            tls_context(files)
        assert said in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("written", "host"),
    [("broker:8883", "broker"), ("[::1]:8883", "::1"), ("mqtts://b.site:8883/", "b.site")],
)
def test_a_broker_is_understood_as_people_write_it(written: str, host: str) -> None:
    assert host_and_port(written) == (host, 8883)


@pytest.mark.parametrize(
    "written",
    [
        "mqtt://b:1883",
        "b",
        "b:",
        ":8883",
        "b:0",
        "b:65536",
        "b:x",
        "https://b:443/x",
        "b r:8883",
        "b:8883:8883",
        "b\u200b:8883",
        "b:８８８３",
    ],
)
def test_what_is_no_broker_is_refused(written: str) -> None:
    with pytest.raises(click.UsageError, match="HOST:PORT"):
        host_and_port(written)


UPLINK = "import sys; from sync.transport.mqtt import *; tls_context(TlsFiles(*map(Path, sys.argv[1:])))"
FACADE = """import sys
from dataclasses import replace
from pathlib import Path
from device.api.server import tls_context
from device.settings import ApiSettings, Settings
ca, certificate, key = map(Path, sys.argv[1:])
api = ApiSettings(certificate=certificate, key=key, client_ca=ca)
tls_context(replace(Settings(), api=api), plain_http=False)
"""
SINK = "import sys; from sync.registry.sinks.trust import *; trusting(*map(Path, sys.argv[1:]))"
DASHBOARD = """import sys
from sync.dashboard.serve import *
files = tuple(map(Path, sys.argv[2:]))
serve(None, host="127.0.0.1", port=0, certificate=files, proxy=None, started=print, terminated=None)
"""


@pytest.mark.parametrize("program", [UPLINK, FACADE, SINK, DASHBOARD], ids=["uplink", "api", "sink", "page"])
def test_a_locked_key_asks_nobody_at_the_terminal(site: Authority, tmp_path: Path, program: str) -> None:
    """OpenSSL asks the person at the controlling terminal; a service would wait there for ever."""
    ours = site.issue("site-1/unit-1", NOW)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        serialization.load_pem_private_key(Path(ours.key).read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
    )
    command = [sys.executable, "-c", program, str(ours.ca), str(ours.certificate), str(locked)]
    terminal = ["script", "--quiet", "--command", shlex.join(command), "/dev/null"]
    said = subprocess.run(terminal, stdin=subprocess.DEVNULL, capture_output=True, timeout=180).stdout
    assert b"pass phrase:" not in said
    assert b"locked.key is locked by a pass phrase" in said


CLAIM = """import sys
from pathlib import Path
from device.uplink.network import trusting
trusting(Path(sys.argv[1]).read_text())
"""
ANY_PACKAGE = "import ssl, device; assert ssl.create_default_context().keylog_filename is None"


@pytest.mark.parametrize(
    "program", [UPLINK, SINK, CLAIM, ANY_PACKAGE], ids=["uplink", "sink", "claim", "any package"]
)
def test_no_process_writes_down_what_deciphers_its_connections(
    site: Authority, tmp_path: Path, program: str
) -> None:
    """Python's TLS does where the environment names a file for it, as browsers do."""
    ours, keys = site.issue("site-1/unit-1", NOW), tmp_path / "keys"
    environment = {**os.environ, "SSLKEYLOGFILE": str(keys)}
    files = [ours.ca, ours.certificate, ours.key]
    bare = [sys.executable, "-c", "import ssl; ssl.create_default_context()"]
    subprocess.run(bare, env={**environment, "SSLKEYLOGFILE": str(tmp_path / "bare")}, check=True)
    assert (tmp_path / "bare").exists(), "this Python keeps none, so that nothing can be shown here"
    subprocess.run([sys.executable, "-c", program, *files], env=environment, check=True)
    assert not keys.exists()


@pytest.mark.parametrize(("trial", "told"), [(False, 1), (True, 0)])
def test_a_connection_on_trial_that_is_refused_warns_nobody(
    caplog: pytest.LogCaptureFixture, trial: bool, told: int
) -> None:
    reactor = Reactor()
    try:
        link = reactor.link(LinkSettings("127.0.0.1", free_port(), "probe", None, trial=trial))
        until = time.monotonic() + 30
        while not link.failures and time.monotonic() < until:
            reactor.poll(0.05)
        assert link.last_error
    finally:
        reactor.close()
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == told
