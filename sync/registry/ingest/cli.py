"""`ostiary registry worker`: takes batches until stopped, and waits for a database that is down."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import threading
from pathlib import Path

import click

from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.registry.campaigns.handler import Campaigns
from sync.registry.clock import BelievedClock
from sync.registry.database.engine import NoRegistryError
from sync.registry.database.store import Store, StoreError
from sync.registry.fleet.issuer import DocumentIssuer
from sync.registry.ingest.ingest import Ingest
from sync.registry.ingest.worker import Worker, share_name, subscriptions
from sync.service import journal
from sync.service.command_line import DATABASE, FILE, host_and_port, wall_ms
from sync.service.metrics import MetricsFile
from sync.service.service_manager import ServiceManager
from sync.service.terminated import stop_event
from sync.transport.backoff import Backoff
from sync.transport.mqtt import LinkSettings, Reactor, TlsFiles, common_name

log = logging.getLogger(__name__)


@click.command("worker")
@DATABASE
@click.option("--broker", required=True, metavar="HOST:PORT", help="The MQTT broker.")
@click.option("--ca", required=True, type=FILE, help="Whom we trust (PEM).")
@click.option("--cert", required=True, type=FILE, help="The registry's certificate.")
@click.option("--key", required=True, type=FILE, help="Its private key (PEM).")
@click.option("--signing-key", required=True, type=FILE, help="Signs receipts (PEM).")
@click.option("--fleet-key", type=FILE, help="Signs what units should be (PEM): one worker keeps the fleet.")
@click.option("--tenant-key", type=FILE, help="Opens prints of attacks (PEM): one worker keeps campaigns.")
@click.option("--name", help="This worker's MQTT client id; else the name in its certificate.")
@click.option("--metrics", type=FILE, help="Keep figures for Prometheus' textfile collector here.")
def worker_command(
    database: str,
    broker: str,
    ca: Path,
    cert: Path,
    key: Path,
    signing_key: Path,
    fleet_key: Path | None,
    tenant_key: Path | None,
    name: str | None,
    metrics: Path | None,
) -> None:
    """Take batches from the shared subscription until stopped. Run as many as you like.

    \b
    Example:
      ostiary registry worker --database sqlite:///registry.db --broker localhost:8883 \\
        --ca ca.pem --cert worker-1.pem --key worker-1.key --signing-key receipts.key
    """
    journal.set_up(logging.INFO, "%(asctime)s %(levelname)s %(message)s")
    host, port = host_and_port(broker)
    stop = stop_event()
    signer = FileSigner.load(signing_key)
    opened = open_patiently(database, signer, stop)
    if opened is None:
        return
    store, clock = opened
    reactor = Reactor()
    try:
        # No session of its own: what a worker leaves behind goes to the others, or is sent again.
        settings = LinkSettings(host, port, name or common_name(cert), TlsFiles(ca, cert, key))
        wanted = subscriptions(share_name(signer), prints=tenant_key is not None)
        link = reactor.link(settings, subscriptions=wanted)
        ingest = Ingest(store, signer, clock.now_ms, clock=clock)
        figures = MetricsFile(metrics) if metrics else None
        # What start-up made stays: the collector need not walk through it again and again.
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        orders = FileSigner.load(fleet_key) if fleet_key else None
        Worker(
            reactor,
            link,
            ingest,
            store,
            clock.now_ms,
            metrics=figures,
            manager=ServiceManager(),
            issuer=DocumentIssuer(store, orders, clock.now_ms) if orders is not None else None,
            campaigns=Campaigns.open(store, tenant_key, signer, orders, clock.now_ms) if tenant_key else None,
        ).run(stop)
        click.echo(json.dumps({**dataclasses.asdict(ingest.counts)}))
    finally:
        reactor.close()
        store.close()


def open_once(database: str) -> tuple[Store, BelievedClock]:
    """The store, and a clock that knows when it was last written to. Raises StoreError."""
    store = Store.open(database, create=False)
    return store, BelievedClock(wall_ms, newest_ms=store.newest_ms())


def open_patiently(
    database: str, signer: FileSigner | None, stop: threading.Event
) -> tuple[Store, BelievedClock] | None:
    """What `open_once` opens, once the database answers; None when `stop` came first.

    A service that is started while the database is down must not stay away for good. Raises SyncError for
    what waiting does not mend.
    """
    backoff = Backoff(first_s=0.5, cap_s=10.0)
    while not stop.is_set():
        try:
            store, clock = open_once(database)
            if signer is not None:
                store.remember_receipts_key(key_to_der(signer.public_key()))
        except NoRegistryError:
            raise
        except StoreError as err:
            log.warning("%s; trying again", err)
            stop.wait(backoff.next_s())
        else:
            return store, clock
    return None
