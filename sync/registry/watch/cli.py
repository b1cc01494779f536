"""`ostiary registry watch`: the detector, the sinks and daily retention, until stopped."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import click

from sync.errors import SyncError
from sync.keys import FileSigner
from sync.registry.ingest.cli import open_once, open_patiently
from sync.registry.retention.housekeeping import LEAST_DAYS
from sync.registry.sinks import Delivery, load_sinks
from sync.registry.watch.anomalies import Detector
from sync.registry.watch.rules import load_rules
from sync.registry.watch.upkeep import Upkeep, listen
from sync.service import journal
from sync.service.command_line import DATABASE, FILE
from sync.service.service_manager import ServiceManager
from sync.service.terminated import stop_event

log = logging.getLogger(__name__)

LISTENS_S = 900.0
"""Every unit reports within this time, however rarely it does."""


@click.command("watch")
@DATABASE
@click.option("--rules", type=FILE, help="Other rules than ours (TOML).")
@click.option("--sinks", "sink_file", type=FILE, help="Where alarms go (TOML).")
@click.option("--every", default=10.0, show_default=True, type=float, help="Seconds between looks.")
@click.option(
    "--keep-months",
    type=click.IntRange(1, 1200),
    help="Delete older months once a day; nothing is deleted when it is left out.",
)
@click.option("--signing-key", type=FILE, help="Signs the records of that: the receipts' (PEM).")
@click.option(
    "--keep-alarms",
    type=click.IntRange(LEAST_DAYS, 36500),
    metavar="DAYS",
    help="Delete older alarms that were dealt with, refusals and commands, once a day.",
)
@click.option("--once", is_flag=True, help="Look once and stop.")
def watch_command(
    database: str,
    rules: Path | None,
    sink_file: Path | None,
    every: float,
    keep_months: int | None,
    signing_key: Path | None,
    keep_alarms: int | None,
    once: bool,
) -> None:
    """Look for what no single event shows, tell the security desk, and let old months go.

    \b
    Example:
      ostiary registry watch --sinks sinks.toml --database sqlite:///registry.db
      ostiary registry watch --keep-months 36 --signing-key receipts.key --database sqlite:///registry.db

    \b
    In sinks.toml, any number of:
      [[sink]]
      type = "webhook"
      url = "https://desk.example/hooks/ostiary"
      token_file = "/etc/ostiary/desk.token"
      proxy = "http://proxy.example:3128"           # if one lies between; HTTPS_PROXY is not asked
      [[sink]]
      type = "email"
      host = "mail.example"
      port = 587
      sender = "registry@example.org"
      to = ["desk@example.org"]
      user = "registry"
      password_file = "/etc/ostiary/mail.password"
      [[sink]]
      type = "mqtt"
      host = "broker.example"
      topic = "building/doors/alarms"
      [[sink]]
      type = "syslog"              # CEF over TLS
      host = "siem.example"
      secret_file = "/etc/ostiary/siem.secret"      # of any sink: signs each message
    """
    journal.set_up(logging.INFO, "%(asctime)s %(levelname)s %(message)s")
    if keep_months is not None and signing_key is None:
        raise click.UsageError("--keep-months needs --signing-key: what is deleted is on record")
    signer = FileSigner.load(signing_key) if signing_key else None
    found, sinks = load_rules(rules), load_sinks(sink_file) if sink_file else []
    stop = stop_event()
    opened = open_once(database) if once else open_patiently(database, signer, stop)
    if opened is None:
        return
    store, clock = opened
    detector, delivery = Detector(store, found), Delivery(store, sinks)
    upkeep = Upkeep(store, signer, keep_months=keep_months, keep_alarms=keep_alarms)
    began_s, told = time.monotonic(), None
    manager = ServiceManager()
    manager.ready("looking")
    while not stop.is_set():
        try:
            told = listen(store, clock, told)
            now_ms = clock.now_ms()
            # Who has just begun to listen, with a clock that nobody bears out, calls nobody silent.
            detector.step(now_ms, units=once or clock.proved or time.monotonic() - began_s > LISTENS_S)
            for problem in delivery.step(now_ms, time.monotonic()):
                log.warning("%s; trying again", problem)
            upkeep.step(told, now_ms)
        except SyncError as err:
            if once:
                raise
            log.warning("%s", err)
        if once:
            return
        manager.progress()
        stop.wait(every)
