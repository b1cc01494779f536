"""`ostiary inspect`: evidence about a recording, for a person or as signed findings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from device.access.voices import voiceprint
from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.audio.utterance import to_wave, wipe
from device.commands.people import AUDIO, error_as_json
from device.errors import DeviceError
from device.evidence.judge import Judge
from device.inspection import page
from device.inspection.findings import Checks, Findings, examine, somebody_speaks
from device.inspection.places import shipped_edits
from device.inspection.statement import checked, findings_bytes, signed
from device.model_store import slots
from device.models.speaker import ROLE as VOICE
from device.secure_store.voiceprints.vault_file import write_durably
from device.settings import load, models_dir, state_dir
from device.unit.assembly import open_judge, open_tools
from sync.errors import SyncError
from sync.plain_file import LARGE_BYTES, plain_bytes
from sync.plain_words import why
from sync.proofs.bundle import key_from_bytes

LIMITS = FileLimits(max_bytes=256 << 20, max_s=600.0)
SEED = "speakers with an even SHA-256 of an4, so762, so762_child, libri, indian_english and demo pages"


@click.command()
@click.argument("recording", type=AUDIO)
@click.option("--person", default="", metavar="UID", help="Also: is it this enrolled person?")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the page here, and beside it the findings (.json) and the unit's statement (.cose).",
)
@click.option("--json", "as_json", is_flag=True, help="The findings as one JSON object.")
@click.option(
    "--verify",
    "statement",
    type=AUDIO,
    metavar="REPORT.cose",
    help="Check a statement about RECORDING and the findings beside it instead.",
)
@click.option(
    "--key",
    type=AUDIO,
    help="With --verify: the unit's audit key, PEM (`ostiary store audit-key`).",
)
def inspect(
    recording: Path, person: str, out: Path | None, as_json: bool, statement: Path | None, key: Path | None
) -> None:
    """Inspect RECORDING, a WAV or FLAC file of up to ten minutes. It decides nothing and keeps nothing.

    Who speaks (with --person), a live person or a machine, where it looks joined, and what cannot be said,
    each as a likelihood ratio with its words. With --out the unit signs what it found.

    \b
    Example: ostiary inspect call.wav --person 4711 --out call.html
    """
    with error_as_json(as_json):
        if statement is not None:
            unit = _verified(recording, statement, key)
            click.echo(f"Unit {unit} signed these findings about this recording.")
            return
        found = _found(recording, person, out)
    if as_json:
        click.echo(findings_bytes(found).decode(), nl=False)
        return
    click.echo(_told(found))
    if out is not None:
        click.echo(f"Written: {out}, {out.with_suffix('.json').name}, {out.with_suffix('.cose').name}")


def _found(recording: Path, person: str, out: Path | None) -> Findings:
    if out is not None and {out, out.with_suffix(".json"), out.with_suffix(".cose")} & {recording}:
        raise DeviceError(f"--out would overwrite {recording.name}; choose another name")
    settings = load()
    with ExitStack() as parts:
        if not person and out is None:  # nothing of the unit's is needed but its models
            judge = parts.enter_context(open_judge(models_dir(), settings))
            return _examined(recording, judge, "", None)
        tools = parts.enter_context(open_tools(settings, state_dir(), models_dir()))
        template = parts.enter_context(voiceprint(tools.store.vault, person, tools.judge.speaker.version))
        found = _examined(recording, tools.judge, person, template)
        if out is not None:
            message = signed(found, settings.door.unit, tools.store.audit_signer)
            _write(out, page.render(found).encode(), findings_bytes(found), message)
        return found


def _examined(
    recording: Path,
    judge: Judge,
    person: str,
    template: npt.NDArray[np.float32] | None,
) -> Findings:
    content = plain_bytes(recording, LARGE_BYTES)
    samples = read_recording(content, LIMITS)
    wave = to_wave(samples)
    try:
        if not somebody_speaks(samples):
            raise DeviceError(f"nobody speaks in {recording.name}; there is nothing to inspect")
        return examine(
            wave,
            Checks(judge.speaker, judge.spoof, shipped_edits()),
            name=recording.name,
            sha256=hashlib.sha256(content).hexdigest(),
            person=person,
            template=template,
            calibrations=_calibrations(),
        )
    finally:
        wave[:] = 0.0
        wipe(samples)


def _calibrations() -> Mapping[str, str]:
    """By kind of evidence: the data on which its map to an LLR was fitted."""
    entry = slots.active(models_dir()).manifest.entry(VOICE)
    return {
        "voice": entry.calibration_origin,
        "live": "speakers and systems with an even SHA-256 of pages that the spoof detector was not taught",
        "joins": SEED,
    }


def _write(out: Path, html: bytes, findings: bytes, message: bytes) -> None:
    try:
        for path, content in ((out, html), (out.with_suffix(".json"), findings)):
            write_durably(path, content)
        write_durably(out.with_suffix(".cose"), message)
    except OSError as err:
        raise DeviceError(f"cannot write {out}: {why(err)}; choose another --out") from err


def _verified(recording: Path, statement: Path, key: Path | None) -> str:
    if key is None:
        raise click.UsageError("--verify needs --key, the unit's audit key")
    try:
        known = key_from_bytes(plain_bytes(key))
    except SyncError as err:
        raise DeviceError(f"{key.name}: {err}; ask for the unit's `ostiary store audit-key`") from err
    findings = statement.with_suffix(".json")
    if not findings.is_file():
        raise DeviceError(f"the findings {findings.name} are not beside {statement.name}")
    return checked(plain_bytes(statement), known, plain_bytes(recording, LARGE_BYTES), plain_bytes(findings))


def _told(found: Findings) -> str:
    lines = [f"{found.name}, {found.seconds:.1f} s"]
    if found.voice is not None:
        spread = (
            f" [{found.voice.low:+.1f}, {found.voice.high:+.1f}]"
            if found.voice.low is not None and found.voice.high is not None
            else ""
        )
        lines.append(f"voice  {found.voice.llr:+.1f}{spread}  {found.voice.in_words}")
    lines.append(f"live   {found.live_llr:+.1f}  {found.live_in_words}")
    lines.append(f"joins  {found.joins_llr:+.1f}  {found.joins_in_words}")
    places = ", ".join(f"{mark.at_s:.2f} s" for mark in found.marks)
    lines.append(f"looks joined at {places}" if places else "no place looks joined")
    lines += [f"cannot be said: {one}" for one in found.unsaid]
    return "\n".join(lines)
