"""What the small authority issues passes the strictest checks that a TLS library makes."""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
from pathlib import Path

import pytest

from sync.fleet.certificates import Authority
from sync.transport.mqtt import TlsFiles
from tests.sync.disks import CAN_MOUNT, Disk


def context(side: int, files: TlsFiles) -> ssl.SSLContext:
    """As Python 3.13 makes them: strict RFC 5280, on whichever Python this runs."""
    made = ssl.SSLContext(side)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    made.load_verify_locations(files.ca)
    made.load_cert_chain(files.certificate, files.key)
    return made


def shaken_hands(client: ssl.SSLObject, server: ssl.SSLObject, wires: list[ssl.MemoryBIO]) -> None:
    to_client, from_client, to_server, from_server = wires
    for _ in range(8):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            to_server.write(from_client.read())
            to_client.write(from_server.read())


@pytest.mark.parametrize("name", ["site-1/unit-1", "registry"])
def test_both_sides_of_a_strict_handshake_accept_what_the_authority_issued(tmp_path: Path, name: str) -> None:
    now = dt.datetime.now(dt.UTC)
    authority = Authority.open(tmp_path, now)
    broker = context(ssl.PROTOCOL_TLS_SERVER, authority.issue("broker", now, hosts=("127.0.0.1",)))
    unit = context(ssl.PROTOCOL_TLS_CLIENT, authority.issue(name, now))
    wires = [ssl.MemoryBIO() for _ in range(4)]
    client = unit.wrap_bio(wires[0], wires[1], server_hostname="127.0.0.1")
    server = broker.wrap_bio(wires[2], wires[3], server_side=True)
    shaken_hands(client, server, wires)
    assert client.getpeercert()
    assert ("commonName", name) in {part for pair in server.getpeercert()["subject"] for part in pair}  # type: ignore[index,union-attr,misc]


@pytest.mark.skipif(not CAN_MOUNT, reason="only root can make a disk of its own")
def test_a_disk_that_is_full_leaves_the_certificate_and_key_that_there_were(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    disk = Disk(tmp_path, 1)
    try:
        authority = Authority.open(tmp_path, now)
        files = authority.issue("site-1/unit-1", now)
        before = [path.read_bytes() for path in (files.certificate, files.key)]
        disk.fill()
        with pytest.raises(OSError, match="No space"):
            authority.issue("site-1/unit-1", now)
        assert [path.read_bytes() for path in (files.certificate, files.key)] == before
    finally:
        disk.remove()
