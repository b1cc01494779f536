"""What a web server of ours takes from nowhere but its own settings."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx

from tests.sync.services import free_port

SERVER = """
import sys
from sync.service.web_server import serve

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["client"][0].encode()})

serve(app, "127.0.0.1", int(sys.argv[1]), None, lambda: print("listening", flush=True), lifespan="off")
"""


def test_what_a_host_sets_for_other_web_servers_is_not_read() -> None:
    """A word for the number of processes ended the service at its start; a star let every caller state
    another address."""
    environment = {**os.environ, "WEB_CONCURRENCY": "auto", "FORWARDED_ALLOW_IPS": "*"}
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-For": "10.9.8.7"}, timeout=180)
        assert answer.text == "127.0.0.1"
    finally:
        server.terminate()
        server.communicate(timeout=180)
