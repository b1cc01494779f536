"""Moves the audit log of a unit without a registry to files that anybody can verify.

Each file is a bundle for `ostiary audit verify`: a run of events, every signed head over them, and the head
before the first, so that files and log join without a seam. Events leave the log only after their file was
written, read back and verified.
"""

from __future__ import annotations

import re
from pathlib import Path

from device.errors import DeviceError
from device.secure_store.voiceprints.vault_file import write_durably
from device.settings import AuditSettings
from device.state_folder import StateFolder
from sync.events import Signer
from sync.outbox import Held, Outbox
from sync.plain_file import plain_bytes
from sync.plain_words import why
from sync.proofs.bundle import MAX_BUNDLE_BYTES, LogBundle, key_to_der
from sync.proofs.verify import verify

AT_MOST_EVENTS = 50_000
"""In one file, so that making one takes little memory: about 30 MB."""
DUE_SHARE = 0.5
_NAME = re.compile(r"events-(\d{12})-(\d{12})\.bundle")


def rotate(log: Outbox, signer: Signer, folder: Path, keep_bytes: int | None = None) -> list[Path]:
    """Move all events into files in `folder`; returns the files, oldest first.

    Killed anywhere, events are in the log, in a file, or in both. Beyond `keep_bytes` the oldest files go.
    Raises DeviceError, StoreUnavailableError or SyncError.
    """
    made = []
    log.seal(signer)
    while (held := log.held(AT_MOST_EVENTS)) is not None:
        made.append(put_away(held, signer, folder))
        log.acknowledge(held.last, held.last_chain)
    if keep_bytes is not None:
        _drop_oldest(folder, keep_bytes)
    return made


def rotate_when_due(log: Outbox, signer: Signer, settings: AuditSettings, state: Path) -> int:
    """`rotate` when the log holds as many events as the settings allow, or is half full; else nothing.

    Returns the last event that was moved, 0 when none was.
    """
    if log.status().pending < settings.rotate_events and log.fill().share < DUE_SHARE:
        return 0
    made = rotate(log, signer, settings.archive or StateFolder(state).audit_archive, settings.keep_bytes())
    return int(made[-1].stem.rpartition("-")[2]) if made else 0


def put_away(held: Held, signer: Signer, folder: Path) -> Path:
    """Write `held` to a file in `folder`, and verify it as read back. Raises DeviceError."""
    data = bundle(held, signer).to_bytes()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as err:
        raise DeviceError(f"{folder} cannot be made: {why(err)}") from err
    path = folder / f"events-{held.first:012}-{held.last:012}.bundle"
    write_durably(path, data)
    report = verify(
        plain_bytes(path, MAX_BUNDLE_BYTES), signer.public_key(), unit=held.unit, start=held.first
    )
    if not report.sound:
        finding = report.findings[0]
        raise DeviceError(f"the log does not verify ({finding.where}: {finding.what}); nothing left it")
    for other, first, last in files(folder):
        if first == held.first and last < held.last:
            other.unlink(missing_ok=True)  # of a run that was cut off before the log let go of its events
    return path


def bundle(held: Held, signer: Signer) -> LogBundle:
    """`held` as a bundle for an auditor."""
    heads = (held.base_head, *held.heads) if held.base_head else held.heads
    key = key_to_der(signer.public_key())
    return LogBundle(held.unit, key, held.first, held.chain, held.frontier, held.bodies, heads)


def files(folder: Path) -> list[tuple[Path, int, int]]:
    """The archive's files with the first and last event in each, oldest first."""
    found = [(path, _NAME.fullmatch(path.name)) for path in folder.glob("*.bundle")]
    return sorted(((path, int(m[1]), int(m[2])) for path, m in found if m), key=lambda entry: entry[1])


def _drop_oldest(folder: Path, keep_bytes: int) -> None:
    sizes = [(path, path.stat().st_size) for path, _, _ in files(folder)]
    total = sum(size for _, size in sizes)
    for path, size in sizes[:-1]:  # the newest stays, whatever its size
        if total <= keep_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
