"""How long until every online unit is warned: from an attack's third print anywhere to the list at each unit.

`python -m bench.registry.warning --units 1000` prints one JSON object. It starts its own broker (mosquitto,
TLS) and one worker as a process of its own; units are simulated in one more, each with its own connection,
keys, signed commands and a ledger on the disk. `warned_s` runs until the unit has verified and taken the
list.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.units.memory_log import MemoryLog, simulated_event
from device.secure_store.exchange import seal_to
from sync.events import UnitId, unit_id
from sync.fleet.certificates import Authority
from sync.keys import FileSigner
from sync.orders.command_handler import CommandHandler, CommandLedger
from sync.orders.commands import Arguments
from sync.proofs.bundle import key_to_der
from sync.registry.database.store import Store
from sync.threats.listed import ThreatList
from sync.threats.prints import MODEL, VALUES, Print, SealedPrint, print_info
from sync.transport.agent import Agent, AgentSettings
from sync.transport.mqtt import LinkSettings, Reactor
from sync.transport.topics import COMMANDS, PRINTS, RECEIPTS, topic
from tests.sync.services import NOW, Mosquitto

TENANT_PSEUDONYMS = b"simulated units have no people.."
LIMIT_S = 600.0
SAY_AGAIN_S = 5.0


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(eq=False)
class Door:
    """A simulated unit that takes lists of threats."""

    name: UnitId
    signer: FileSigner
    held: int = 0
    threats: int = 0
    warned_at: float | None = None
    agent: Agent = field(init=False)

    def join(
        self, reactor: Reactor, authority: Authority, folder: Path, port: int, keys: dict[str, FileSigner]
    ) -> None:
        files = authority.issue(self.name, NOW)
        link = reactor.link(
            LinkSettings("127.0.0.1", port, self.name, files),
            subscriptions=[topic(self.name, RECEIPTS), topic(self.name, COMMANDS)],
        )
        self.agent = Agent(
            log=MemoryLog(self.name, time.monotonic, wall_ms),
            signer=self.signer,
            link=link,
            registry_key=keys["receipts"].public_key(),
            now_s=time.monotonic,
            time_ms=wall_ms,
            settings=AgentSettings(seal_every_s=0.05, receipt_timeout_s=30.0),
            facts=lambda: {"simulated": True, "threats": self.held},
        )
        ledger = CommandLedger(folder / f"{self.name.replace('/', '_')}.ledger")
        self.agent.handler = CommandHandler(
            self.name,
            keys["commands"].public_key(),
            self.signer,
            ledger,
            wall_ms,
            handlers={"apply_threats": self.apply},
        )

    def apply(self, arguments: Arguments) -> None:
        given = arguments["list"]
        listed = ThreatList.from_bytes(given if isinstance(given, bytes) else b"")
        self.held, self.threats = listed.version, len(listed.threats)
        if self.threats and self.warned_at is None:
            self.warned_at = time.monotonic()
        self.agent.report_now()


def measure(count: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="ostiary-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        authority = Authority.open(folder / "pki", NOW)
        broker = Mosquitto(folder, authority, default=False)
        stack.callback(broker.remove)
        broker.start()
        keys = {
            role: FileSigner.load_or_create(folder / f"{role}.key")
            for role in ("receipts", "commands", "tenant")
        }
        url = f"sqlite:///{folder}/registry.db"
        store = Store.open(url)
        stack.callback(store.close)
        doors = [Door(unit_id(f"site-{n // 10}/unit-{n}"), FileSigner.generate()) for n in range(count)]
        for door in doors:
            store.register(door.name, key_to_der(door.signer.public_key()), wall_ms())
        files = authority.issue("worker-1", NOW)
        command = [sys.executable, "-c", "from device.cli import main; main()", "registry", "worker"]
        command += ["--database", url, "--broker", f"127.0.0.1:{broker.port}", "--ca", str(files.ca)]
        command += ["--cert", str(files.certificate), "--key", str(files.key)]
        command += ["--signing-key", str(folder / "receipts.key")]
        command += ["--fleet-key", str(folder / "commands.key"), "--tenant-key", str(folder / "tenant.key")]
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        stack.callback(worker.wait)
        stack.callback(worker.kill)
        reactor = Reactor()
        stack.callback(reactor.close)
        for door in doors:
            door.join(reactor, authority, folder, broker.port, keys)

        def until(done: object, what: str) -> None:
            ended = time.monotonic() + LIMIT_S
            while not done():  # type: ignore[operator]
                if time.monotonic() > ended:
                    raise SystemExit(f"not within {LIMIT_S:.0f} s: {what}")
                for door in doors:
                    door.agent.step()
                reactor.poll(0.02)

        began = time.monotonic()
        until(lambda: all(door.held for door in doors), "every unit has the first list")
        ready_s = time.monotonic() - began
        dice = random.Random(4)
        tool = [dice.gauss(0, 1) for _ in range(VALUES)]
        sent: list[tuple[Door, bytes]] = []
        for door in dice.sample(doors, 3):
            attempt = simulated_event(dice, TENANT_PSEUDONYMS, wall_ms(), 0)
            log = door.agent.log
            if not isinstance(log, MemoryLog):
                raise TypeError("a simulated unit keeps its log in memory")
            while attempt.kind != "DENIED_SPOOF":
                attempt = simulated_event(dice, TENANT_PSEUDONYMS, wall_ms(), 0)
            log.append(attempt)
            values = bytes(round(12 * (value + dice.gauss(0, 0.1))) & 0xFF for value in tool)
            plain = Print(MODEL, values).to_bytes()
            sealed = seal_to(keys["tenant"].public_key(), plain, print_info(door.name))
            sent.append((door, SealedPrint(door.name, log.sequence, sealed).signed(door.signer)))
        third_at = time.monotonic()
        said_at = [float("-inf")]

        def all_warned() -> bool:
            if time.monotonic() >= said_at[0] + SAY_AGAIN_S:  # as units do until the registry has them
                said_at[0] = time.monotonic()
                for door, message in sent:
                    door.agent.link.publish(topic(door.name, PRINTS), message)
            return all(door.warned_at is not None for door in doors)

        until(all_warned, "every unit is warned")
        waits = sorted((door.warned_at or 0.0) - third_at for door in doors)
        return {
            "units": count,
            "first_list_s": round(ready_s, 1),
            "warned_first_s": round(waits[0], 2),
            "warned_half_s": round(waits[len(waits) // 2], 2),
            "warned_all_s": round(waits[-1], 2),
            "load_average": os.getloadavg()[0],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--units", type=int, default=1000)
    print(json.dumps(measure(parser.parse_args().units)))


if __name__ == "__main__":
    main()
