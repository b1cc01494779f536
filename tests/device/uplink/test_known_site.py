"""A claim service that cannot show that it is the site of the claim is not trusted; the reason is told."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from device.errors import DeviceError
from device.uplink.admission import trusted_site
from sync.events import unit_id
from sync.fleet.certificates import LEAF_DAYS, Authority
from sync.fleet.provisioning.claim import Claim
from sync.fleet.provisioning.messages import Site

Served = Callable[[datetime, str], Claim]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """The claim of a site whose service shows a certificate made at a time, for a name."""
    authority = Authority.open(tmp_path, datetime.now(UTC) - timedelta(days=2 * LEAF_DAYS))
    answer = Site((tmp_path / "ca.pem").read_bytes(), b"").to_bytes()

    servers: list[http.server.HTTPServer] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    def serve(made: datetime, name: str) -> Claim:
        files = authority.issue("claims", made, (name,))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        pin = authority.certificate.fingerprint(hashes.SHA256())
        return Claim.fresh("127.0.0.1", server.server_port, unit_id("st-mary/icu-2"), "pharmacy", pin)

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_service_with_the_sites_certificate_for_its_name_is_the_site(served: Served) -> None:
    assert trusted_site(served(datetime.now(UTC), "127.0.0.1")).root.startswith(b"-----BEGIN")


@pytest.mark.parametrize(
    ("days_ago", "name", "why"),
    [(0, "elsewhere.example", "it is of another address"), (LEAF_DAYS + 30, "127.0.0.1", "it has run out")],
)
def test_a_service_that_is_not_known_is_told_with_the_reason(
    served: Served, days_ago: int, name: str, why: str
) -> None:
    claim = served(datetime.now(UTC) - timedelta(days=days_ago), name)
    with pytest.raises(DeviceError, match=f"does not prove that it is the site.*{why}.*; check the clock"):
        trusted_site(claim)
