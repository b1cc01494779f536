"""`ostiary support-bundle`: one file for remote help, with nothing personal in it.

One filter takes out people and phrases: the ids of the enrolled, and every badge, card and spoken name of the
rules, become `[person]`; three or more words of the challenge list in a row, and the sentences of the other
styles, become `[phrase]`. Where vault or rules cannot be read, the filter knows no names, and free text, such
as the journal, is left out.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path

import click

from device.commands.installed.config import effective
from device.commands.installed.doctor import examine
from device.errors import DeviceError
from device.evidence.vocabulary import Language
from device.evidence.wordlists import challenge_words
from device.evidence.wordlists.sentences import CARRIERS, DIGITS
from device.secure_store import open_store
from device.settings import Settings, load, models_dir, state_dir
from device.state_folder import StateFolder
from device.unit.assembly import rules_of
from sync.errors import SyncError
from sync.outbox import Outbox
from sync.plain_file import open_output, plain_text
from sync.plain_words import what_and_why

METRICS = Path("/run/ostiary/metrics")
JOURNAL_LINES = 2000
PERSON, PHRASE = "[person]", "[phrase]"
MIN_PHRASE_WORDS = 3

_SENTENCES = "|".join(
    r"\b" + r"\s+".join(r"\w+" if word == "{}" else re.escape(word) for word in carrier.split()) + r"\b"
    for carrier in CARRIERS
)
_UNITS = (
    "ostiary-door",
    "ostiary-uplink",
    "ostiary-api",
    "ostiary-registry",
    "ostiary-registry-watch",
    "ostiary-claims",
    "ostiary-dashboard",
)
_SHOWN = "Id,LoadState,ActiveState,SubState,StatusText,Result,NRestarts,ActiveEnterTimestamp,ExecMainStatus"


@click.command("support-bundle")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="A .tar.gz file.")
def support_bundle(out: Path) -> None:
    """Gather what helps to find a fault: versions, settings, findings, figures, service states, journal.

    No recording, voiceprint, key, name, number or phrase is in it; `tar xzf` shows everything that is.

    \b
    Example: ostiary support-bundle -o /tmp/door-12.tar.gz
    """
    settings = load()
    known = everybody(settings)
    files = dict(gathered(settings, free_text=known is not None))
    if known is None:
        files["left-out.txt"] = (
            "The vault or the rules cannot be read, so nobody can say whom to leave out of free text.\n"
        )
    with open_output(out) as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in files.items():
            data = without_people(text, known or ()).encode()
            entry = tarfile.TarInfo(f"ostiary-support/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o644
            archive.addfile(entry, io.BytesIO(data))
    click.echo(f"{out}: {', '.join(files)}")


def everybody(settings: Settings) -> frozenset[str] | None:
    """Every name of a person on this unit; None where that cannot be told."""
    try:
        with open_store(state_dir(), settings.store, warn=lambda _: None) as store:
            found = set(store.vault.uids())
            if store.status().vault.damaged:
                return None
        people = rules_of(state_dir(), settings.door.name).people
    except (DeviceError, OSError):
        return None
    for uid, person in people.items():
        found |= {uid, *person.badges}
        found |= {person.spoken} if person.spoken else set()
        found |= {person.card, person.card.partition(":")[2]} if person.card else set()
    return frozenset(found)


def gathered(settings: Settings, *, free_text: bool) -> Iterator[tuple[str, str]]:
    """(name, text) of each file, before the filter."""
    facts = {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": platform.machine(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "packages": {item.name: item.version for item in sorted(distributions(), key=lambda item: item.name)},
    }
    yield "about.json", _json(facts)
    yield "settings.json", _json([asdict(item) for item in effective()])
    disk = shutil.disk_usage(state_dir())
    yield "disk.json", _json({"free_bytes": disk.free, "total_bytes": disk.total})
    yield "audit-log.json", _json(_log_status(settings))
    manifest = models_dir() / "manifest.json"
    if manifest.exists():
        yield "models.json", plain_text(manifest)
    for path in sorted(METRICS.glob("*.prom")):
        yield path.name, plain_text(path)
    yield "services.txt", _told_by("systemctl", "show", "--no-pager", f"--property={_SHOWN}", *_UNITS)
    findings = [asdict(finding) for finding in examine()]
    if free_text:
        yield "doctor.json", _json(findings)
        units = [f"--unit={unit}" for unit in _UNITS]
        yield (
            "journal.txt",
            _told_by("journalctl", "--no-pager", "--output=short-iso", f"--lines={JOURNAL_LINES}", *units),
        )
    else:
        yield "doctor.json", _json([{"what": item["what"], "well": item["well"]} for item in findings])


def without_people(text: str, known: Collection[str]) -> str:
    """`text` without `known` people and phrases; matches whole words in any case."""
    names = sorted((name for name in known if name), key=len, reverse=True)
    if names:
        every = "|".join(r"\s+".join(map(re.escape, name.split())) for name in names)
        text = re.sub(rf"(?<![0-9A-Za-z])(?:{every})(?![0-9A-Za-z])", PERSON, text, flags=re.IGNORECASE)
    text = re.sub(r"approve the transaction\s+\S+\s+with the code\s+\S+", PHRASE, text, flags=re.IGNORECASE)
    text = re.sub(_SENTENCES, PHRASE, text, flags=re.IGNORECASE)
    said = (word for language in Language for word in (*challenge_words(language), *DIGITS[language]))
    words = "|".join(map(re.escape, said))
    spoken = rf"\b(?:{words})(?:[\s,]+(?:{words})\b){{{MIN_PHRASE_WORDS - 1},}}"
    return re.sub(spoken, PHRASE, text, flags=re.IGNORECASE)


def _log_status(settings: Settings) -> object:
    path = StateFolder(state_dir()).audit_log
    if not path.exists():
        return "none yet"
    try:
        with Outbox(path, unit=settings.door.unit, doors={settings.door.name}, now_ms=lambda: 0) as log:
            return asdict(log.status())
    except SyncError as err:
        return str(err)


def _told_by(*command: str) -> str:
    """The output of a program of the system, its errors included."""
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=30, errors="replace", check=False
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        return f"{command[0]}: {what_and_why(err)}\n"
    return ran.stdout + ran.stderr


def _json(value: object) -> str:
    return json.dumps(value, indent=1, default=str) + "\n"
