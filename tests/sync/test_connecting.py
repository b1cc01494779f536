"""Each reason for which there is no connection has a sentence of its own; the errors are OpenSSL's own."""

from __future__ import annotations

import datetime as dt
import errno
import socket
import ssl
from pathlib import Path

import pytest

from sync.connecting import REMIND_DAYS, Validity, refused, why
from sync.errors import SyncError
from sync.fleet.certificates import LEAF_DAYS, Authority
from sync.mqtt import TlsFiles, tls_context

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
