"""`ostiary api`: the REST facade for other systems, and the tokens that open it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device.api.errors import ApiError
from device.api.openapi import document
from device.api.tokens import SCOPES, Token, TokenBook, issue
from device.secure_store import open_store
from device.settings import load, models_dir, state_dir
from device.state_folder import StateFolder
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why
from sync.service import journal
from sync.service.terminated import Terminated

CONFIG = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def api() -> None:
    """Offer the three checks to other systems: /otp, /register, /verify, /results."""


@api.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on.")
@click.option("--plain-http", is_flag=True, help="Without TLS: on a laptop's loopback address alone.")
@click.option("--config", type=CONFIG, help="Settings file.")
def serve(host: str | None, port: int | None, plain_http: bool, config: Path | None) -> None:
    """Serve the facade beside the door process until SIGTERM or Ctrl-C.

    `[api] certificate`, `key` and `client_ca` set up mutual TLS.

    \b
    Example: ostiary api serve --config /etc/ostiary/ostiary.toml
    """
    from device.api.server import open_service  # `token` needs neither models nor a web server
    from device.api.server import serve as serve_service

    journal.set_up(logging.WARNING, "%(name)s: %(message)s")
    settings = load(config)
    chosen = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = replace(settings, api=replace(settings.api, **chosen))  # type: ignore[arg-type]
    # The server ends in order at a signal and then raises it again: that must not skip what closes the store.
    terminated = Terminated.heeded()
    with (
        contextlib.suppress(KeyboardInterrupt),
        open_service(settings, state_dir(), models_dir()) as service,
    ):
        scheme = "http" if plain_http else "https"
        click.echo(f"Serving on {scheme}://{settings.api.host}:{settings.api.port}", err=True)
        serve_service(service, settings, terminated, plain_http=plain_http)


@api.command()
@click.option("--client", required=True, metavar="NAME", help="Who will use it.")
@click.option("--scope", "scopes", multiple=True, required=True, type=click.Choice(SCOPES))
@click.option("--minutes", type=click.FloatRange(min=0.01), default=15.0, show_default=True)
@click.option("--certificate", type=CONFIG, help="PEM; the token then works with this client's alone.")
@click.option("--config", type=CONFIG, help="Settings file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the expiry.")
def token(
    client: str,
    scopes: tuple[str, ...],
    minutes: float,
    certificate: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Issue a short-lived token. It ends by itself, or when `ostiary api recall` takes it back.

    The unit keeps its number, never the token.

    \b
    Example: ostiary api token --client pharmacy --scope otp --scope verify --minutes 15
    """
    settings = load(config)
    if minutes > settings.api.max_token_min:
        raise click.UsageError(f"a token lives for {settings.api.max_token_min:g} minutes at most")
    now_s = int(time.time())
    made = Token(
        client,
        frozenset(scopes),
        now_s,
        now_s + max(1, round(minutes * 60)),
        "" if certificate is None else _thumbprint(certificate),
    )
    with (
        open_store(state_dir(), settings.store) as store,
        TokenBook(StateFolder(state_dir()).api_tokens) as book,
    ):
        text = issue(made, store.mac)
        book.add(made)
    facts = {"token": text, "token_id": made.token_id, "expires_s": made.expires_s}
    click.echo(json.dumps(facts) if as_json else text)


@api.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def tokens(as_json: bool) -> None:
    """List the tokens that have not expired, and which of them were recalled.

    \b
    Example: ostiary api tokens
    """
    with TokenBook(StateFolder(state_dir()).api_tokens) as book:
        found = book.listed(time.time())
    if as_json:
        click.echo(json.dumps([asdict(item) for item in found]))
        return
    for item in found:
        ends = datetime.fromtimestamp(item.expires_s, UTC)
        state = "recalled" if item.recalled else f"until {ends:%H:%M:%S}Z"
        bound = "  one certificate" if item.bound else ""
        click.echo(f"{item.token_id}  {item.client}  {' '.join(item.scopes)}  {state}{bound}")
    if not found:
        click.echo("No token is open.")


@api.command()
@click.argument("token_id", default="")
@click.option("--client", default="", metavar="NAME", help="All of this caller's.")
@click.option("--all", "everything", is_flag=True, help="Every token there is.")
def recall(token_id: str, client: str, everything: bool) -> None:
    """Take tokens back before they end: one by its number, or all of a caller's. It counts at once.

    Exit code 1 when there was none to take back.

    \b
    Example: ostiary api recall --client pharmacy
    """
    if sum(map(bool, (token_id, client, everything))) != 1:
        raise click.UsageError("name one TOKEN_ID (`ostiary api tokens` lists them), --client or --all")
    with TokenBook(StateFolder(state_dir()).api_tokens) as book:
        count = book.recall(token_id=token_id, client=client, everything=everything)
    click.echo(f"{count} recalled.")
    if not count:
        raise click.exceptions.Exit(1)


def _thumbprint(path: Path) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(plain_bytes(path))
    except (OSError, ValueError) as err:
        raise ApiError(f"{path.name} is no PEM certificate: {what_and_why(err)}") from err
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


@api.command()
def openapi() -> None:
    """Print the OpenAPI 3.1 document.

    \b
    Example: ostiary api openapi > openapi.json
    """
    click.echo(json.dumps(document(load().api.max_body_bytes), indent=2))
