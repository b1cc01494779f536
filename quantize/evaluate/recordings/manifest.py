"""The list of recordings to evaluate on: tab-separated, one file a line, checked before anything runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from quantize.errors import QuantizeError
from sync.plain_file import plain_text
from sync.plain_words import why

REQUIRED = ("path", "label", "speaker", "system")
MANIFEST_LIMIT_BYTES = 64 * 1024 * 1024
MANY_PROBLEMS = 5


class NothingListedError(QuantizeError):
    """No line has one of the labels that were asked for."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One line of the manifest. An unknown speaker, system or text is the empty string."""

    path: str
    label: str
    speaker: str
    system: str
    text: str
    group: str
    gender: str

    @property
    def folder(self) -> str:
        """The top folder: one corpus, one demonstration page."""
        return PurePosixPath(self.path).parts[0]

    @property
    def unit(self) -> str:
        """Whom to resample: the speaker where known; otherwise the file stands for itself."""
        return self.speaker or self.path


# Corpora whose speakers' accent is documented by their authors; any manifest may say it in a `group` column.
_GROUPS = {"an4": "native", "libri": "native", "so762": "accented"}


JUDGED = ("bonafide", "spoof")
NOISE = "noise"
ROOM = "impulse_response"


def read_manifest(manifest: Path, root: Path, labels: Sequence[str] = JUDGED) -> list[Recording]:
    """Every line with one of `labels`, in path order.

    Raises QuantizeError naming the first problems when the file is unreadable, a column is missing, a path
    leaves `root`, is listed twice or is not there.
    """
    try:
        lines = io.StringIO(plain_text(manifest, MANIFEST_LIMIT_BYTES), newline="")
        reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
        if missing:
            raise QuantizeError(f"{manifest} has no column {', '.join(missing)}; see docs/evaluation.md")
        rows = list(reader)
    except OSError as err:
        raise QuantizeError(f"cannot read {manifest}: {why(err)}") from err
    except (UnicodeDecodeError, csv.Error) as err:
        raise QuantizeError(f"cannot read {manifest}: {err}") from err
    recordings = [_recording(row) for row in rows if row["label"] in labels]
    if not recordings:
        raise NothingListedError(f"{manifest} lists no {' or '.join(labels)} file")
    problems = _problems(recordings, root)
    if problems:
        more = f" and {len(problems) - MANY_PROBLEMS} more" if len(problems) > MANY_PROBLEMS else ""
        raise QuantizeError(f"{manifest}: {'; '.join(problems[:MANY_PROBLEMS])}{more}")
    return sorted(recordings, key=lambda recording: recording.path)


def noises(manifest: Path, root: Path, label: str = NOISE) -> list[Recording]:
    """The noises that the manifest lists to mix with, or the rooms to mix in; none where it lists none."""
    try:
        return read_manifest(manifest, root, (label,))
    except NothingListedError:
        return []


def _recording(row: dict[str, str | None]) -> Recording:
    def field(name: str) -> str:
        value = (row.get(name) or "").strip()
        return "" if value == "-" else value

    path, speaker = field("path"), field("speaker")
    folder = path.partition("/")[0]
    return Recording(
        path=path,
        label=field("label"),
        speaker=speaker,
        system=field("system"),
        text=field("text"),
        group=field("group") or _GROUPS.get(folder, ""),
        gender=field("gender") or _an4_gender(folder, speaker),
    )


def _an4_gender(folder: str, speaker: str) -> str:
    # AN4's authors put it in the first letter of the speaker's code: an4-fash, an4-mblb.
    if folder != "an4":
        return ""
    return {"f": "female", "m": "male"}.get(speaker.removeprefix("an4-")[:1], "")


def _problems(recordings: list[Recording], root: Path) -> list[str]:
    problems = []
    seen: set[str] = set()
    for recording in recordings:
        parts = PurePosixPath(recording.path).parts
        if not parts or recording.path.startswith("/") or ".." in parts:
            problems.append(f"{recording.path!r} is not a path below the root")
        elif recording.path in seen:
            problems.append(f"{recording.path} is listed twice")
        elif not (root / recording.path).is_file():
            problems.append(f"{recording.path} is not under {root}")
        if recording.label == "spoof" and not recording.system:
            problems.append(f"{recording.path} is a spoof without a system")
        seen.add(recording.path)
    return problems
