"""One frozen Settings tree: defaults, one TOML file, one pass of checks that reports every mistake."""

from __future__ import annotations

import difflib
import math
import os
import types
import typing
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from device.audio.settings import AudioSettings
from device.door.settings import DoorSettings
from device.errors import DeviceError
from device.feedback.settings import FeedbackSettings
from device.secure_store.settings import StoreSettings
from device.state_folder import StateFolder
from sync.plain_file import plain_text
from sync.plain_words import one_line, why
from sync.toml_table import toml_table

MAX_SETTINGS_BYTES = 64 * 1024


SYSTEM_FILE = Path("/etc/ostiary/ostiary.toml")
"""Read where nothing names another file."""
SYSTEM_MODELS = Path("/usr/share/ostiary/models")
"""The bundle of models that a package of the software brings; read-only."""


class SettingsError(DeviceError):
    """The settings file is wrong; the message lists every mistake, and `mistakes` has them one by one."""

    def __init__(self, message: str, mistakes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.mistakes = mistakes or (message,)


def state_dir() -> Path:
    """The folder of everything that this unit must not lose: $OSTIARY_STATE_DIR, else ~/.local/state/ostiary.

    Raises SettingsError for a user without a home folder who names none.
    """
    variable = "OSTIARY_STATE_DIR"
    return _whole(variable, _named(variable) or _at_home("~/.local/state/ostiary", variable))


def _named(variable: str) -> Path | None:
    """The path in an environment variable; None for none. Raises SettingsError for one that is not meant."""
    chosen = os.environ.get(variable)
    if not chosen:
        return None
    if chosen != chosen.strip() or not chosen.isprintable():
        wrong = "it has a blank at an end, or a sign that nobody sees; write the path anew"
        raise SettingsError(f"{variable} is `{one_line(chosen)}`: {wrong}")
    return _at_home(chosen, variable)


def _at_home(path: str, variable: str) -> Path:
    homeless = SettingsError(f"this user has no home folder; name a folder in {variable}")
    if path.startswith("~/") and not os.environ.get("HOME", "/").startswith("/"):
        raise homeless  # Python would take the disk's own root, or a folder where one stands
    try:
        return Path(path).expanduser()
    except RuntimeError as err:
        raise homeless from err


def _whole(variable: str, path: Path) -> Path:
    """`path` from `/` on, unless nothing expanded it or it is the whole disk."""
    unexpanded = not path.is_absolute() and ("$" in str(path) or str(path).startswith("file:"))
    path = path.absolute()
    if unexpanded or path == path.parent:
        where = one_line(str(path))
        raise SettingsError(
            f"{variable} is `{where}`; give the whole path of a folder of its own, from `/` on"
        )
    try:
        path.stat()
    except OSError as err:
        if path.is_symlink():
            raise SettingsError(f"{variable}: {path} is a link, and {why(err)}: mend or mount it") from err
    return path


def memory_dir() -> Path | None:
    """$OSTIARY_RUNTIME_DIR, a folder in memory for what a full disk does not take; None where not set."""
    chosen = _named("OSTIARY_RUNTIME_DIR")
    return None if chosen is None else _whole("OSTIARY_RUNTIME_DIR", chosen)


def models_dir(installed: Path = SYSTEM_MODELS) -> Path:
    """The folder of the models in use: this unit's own, else those installed with the software."""
    own = own_models_dir()
    has_own = any((own / name).exists() for name in ("shelf.json", "manifest.json"))
    return installed if not has_own and (installed / "manifest.json").exists() else own


def kept_in(models: Path, installed: Path = SYSTEM_MODELS) -> Path:
    """The folder that remembers this machine's choice of runtimes for the bundle in `models`: the same one,
    or the unit's own for models that were installed with the software and are read-only.
    """
    return own_models_dir() if models == installed else models


def own_models_dir() -> Path:
    """The folder for new models: $OSTIARY_MODELS_DIR, else `models` in the state folder."""
    return _named("OSTIARY_MODELS_DIR") or StateFolder(state_dir()).models


class WordsEngine(StrEnum):
    """Which model hears the words, and what runs it."""

    ONNX = "onnxruntime"
    WHISPER_BASE = "whisper-base"
    WHISPER_CPP = "whisper.cpp"
    WHISPER_CPP_Q5_1 = "whisper.cpp-q5_1"
    WHISPER_CPP_BASE = "whisper.cpp-base"
    WHISPER_CPP_BASE_Q5_1 = "whisper.cpp-base-q5_1"


class SecondWords(StrEnum):
    """Which model hears doubtful words once more."""

    WHISPER_BASE = "whisper-base"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How much of the machine one judgement may use."""

    threads: int = field(default=2, metadata={"low": 1, "high": 16})
    words: WordsEngine = WordsEngine.ONNX
    """The others need optional models of the bundle: `ostiary models build --only words-base` for the larger
    `whisper-base`, `--only words-ggml` for `whisper.cpp`, and so on (docs/models.md).
    """
    second_words: SecondWords = SecondWords.WHISPER_BASE
    """Where the bundle has it, and `onnxruntime` is the first (docs/adr/0060)."""
    timeout_s: float = field(default=10.0, metadata={"low": 0.5, "high": 60.0})
    voices_follow: bool = True
    """Whether voiceprints follow what this unit's doors hear of their owners, where the rules allow it. False
    drops what was followed, too."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Defaults are a unit's: a loopback address, mutual TLS, and room for one busy integration."""

    host: str = "127.0.0.1"
    port: int = field(default=8443, metadata={"low": 0, "high": 65_535})
    certificate: Path | None = None
    """PEM chain of this server; needs `key` and `client_ca`."""
    key: Path | None = None
    client_ca: Path | None = None
    """The authority (PEM) of callers' certificates."""
    max_body_bytes: int = field(default=8 << 20, metadata={"low": 4096, "high": 32 << 20})
    max_waiting: int = field(default=128, metadata={"low": 1, "high": 4096})
    """Requests with audio that are read, waiting or judged; the next one is refused for now."""
    max_waiting_bytes: int = field(default=64 << 20, metadata={"low": 4096, "high": 1 << 30})
    max_connections: int = field(default=512, metadata={"low": 8, "high": 3000})
    connections_per_address: int = field(default=160, metadata={"low": 1, "high": 3000})
    """A further connection takes the place of the one that has been silent for longest."""
    header_timeout_s: float = field(default=10.0, metadata={"low": 0.5, "high": 120.0})
    """From a connection's first packet, or the last answer, to a whole request header."""
    body_timeout_s: float = field(default=15.0, metadata={"low": 0.1, "high": 120.0})
    answer_within_s: float = field(default=30.0, metadata={"low": 0.0, "high": 120.0})
    """A request that takes longer is answered 202; its result is fetched later."""
    result_lifetime_s: float = field(default=3600.0, metadata={"low": 1.0, "high": 604_800.0})
    """How long a result can be fetched; its transaction id stays taken twice as long."""
    max_results: int = field(default=50_000, metadata={"low": 10, "high": 5_000_000})
    code_lifetime_s: float = field(default=60.0, metadata={"low": 2.0, "high": 120.0})
    """From the answer of /otp to the arrival of /verify: speaking, encoding and sending included."""
    requests_per_s: float = field(default=20.0, metadata={"low": 0.1, "high": 10_000.0})
    """Sustained, of one caller."""
    burst: int = field(default=200, metadata={"low": 1, "high": 100_000})
    checks_per_person_per_min: float = field(default=20.0, metadata={"low": 0.1, "high": 100_000.0})
    """Of one person's voice, for all callers together: scores would help to tune an attack."""
    max_streams: int = field(default=20, metadata={"low": 0, "high": 1_000})
    """Streams of sound at once, those of callers who may come back included; 0 serves none."""
    stream_threads: int = field(default=2, metadata={"low": 1, "high": 64})
    """Threads for streams, beside the judge's."""
    stream_idle_s: float = field(default=15.0, metadata={"low": 0.1, "high": 300.0})
    """A caller who sends or reads nothing for so long is disconnected."""
    stream_resume_s: float = field(default=30.0, metadata={"low": 0.0, "high": 600.0})
    """How long a stream waits for a caller who was cut off."""
    max_token_min: float = field(default=60.0, metadata={"low": 1.0, "high": 1440.0})
    renewable_days: float = field(default=30.0, metadata={"low": 0.0, "high": 366.0})
    """How long a caller may renew a token that is tied to its certificate, without a person at the unit."""

    def __post_init__(self) -> None:
        if self.max_body_bytes > self.max_waiting_bytes:
            raise ValueError("max_body_bytes must not exceed max_waiting_bytes, or nothing could ever wait")
        given = [item is not None for item in (self.certificate, self.key, self.client_ca)]
        if any(given) and not all(given):
            raise ValueError("certificate, key and client_ca go together")

    @property
    def tls(self) -> tuple[Path, Path, Path] | None:
        """(certificate, key, CA of the callers), or None when TLS is not set up."""
        if self.certificate is None or self.key is None or self.client_ca is None:
            return None
        return self.certificate, self.key, self.client_ca


@dataclass(frozen=True, slots=True)
class ConversationSettings:
    """Who may be recognised in a recording or a stream of several people, and how long it may be."""

    consent_texts: tuple[str, ...] = ()
    """Versions of the consent text that let a person be recognised in conversations. Where there are none,
    nobody is recognised in production, and everybody enrolled on a laptop.
    """
    longest_min: float = field(default=120.0, metadata={"low": 0.1, "high": 240.0})
    """Of a file."""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Of the audit log on a unit without a registry."""

    standalone: bool = False
    """Whether this unit has no registry, and so moves its log to files before it is full."""
    rotate_events: int = field(default=100_000, metadata={"low": 1_000, "high": 500_000})
    """How many events the log holds before they are moved."""
    archive: Path | None = None
    """Folder of those files; `audit/archive` in the state folder when left out."""
    keep_mib: int | None = field(default=None, metadata={"low": 1, "high": 1_000_000})
    """The most that the files may take before the oldest go; without it all stay."""

    def keep_bytes(self) -> int | None:
        return None if self.keep_mib is None else self.keep_mib << 20


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """The fleet that this unit follows; none without `commands`."""

    commands: Path | None = None
    """PEM public key that signs documents for this unit."""
    authority: Path | None = None
    """PEM certificates of the authority over exchange keys; without it no enrolment is shared."""
    trial_s: float = field(default=60.0, metadata={"low": 5.0, "high": 600.0})
    """How long new models have to prove that they decide, before the unit goes back to the old ones."""


def _laptop_store() -> StoreSettings:
    """The store where there is no settings file; a unit's file says `profile = "production"`."""
    return StoreSettings(profile="laptop", keystore="software")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an operator may set, each leaf with its limits."""

    door: DoorSettings = field(default_factory=DoorSettings)
    audio: AudioSettings = field(default_factory=AudioSettings)
    feedback: FeedbackSettings = field(default_factory=FeedbackSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    store: StoreSettings = field(default_factory=_laptop_store)
    audit: AuditSettings = field(default_factory=AuditSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    conversation: ConversationSettings = field(default_factory=ConversationSettings)


_BY_ITSELF = "a microphone that is gone is looked for without it"
RETIRED = {
    "audio.microphone.retry_s": _BY_ITSELF,
    "audio.microphone.retry_max_s": _BY_ITSELF,
    "challenge": "phrases are as the rules say, under `[risks.NAME.challenge]`",
}
"""Keys of earlier versions that nothing reads, and what counts instead: an updated unit starts with them."""


def settings_file(path: Path | None = None, system: Path = SYSTEM_FILE) -> Path | None:
    """The settings file: `path`, else $OSTIARY_CONFIG (empty: none), else `system` where it exists."""
    if path is not None:
        return path
    if "OSTIARY_CONFIG" in os.environ:
        return _named("OSTIARY_CONFIG")
    return system if system.exists() else None


def load(path: Path | None = None, system: Path = SYSTEM_FILE) -> Settings:
    """Settings from `settings_file`, else the defaults.

    Raises SettingsError naming every unknown key, wrong type and value out of range at once.
    """
    found = settings_file(path, system)
    if found is None:
        return Settings()
    mistakes: list[str] = []
    settings: Settings = build(Settings(), read_table(found), "", mistakes)
    if mistakes := [one_line(mistake, 1_000) for mistake in mistakes]:
        raise SettingsError(f"{found}: " + "; ".join(mistakes), tuple(mistakes))
    return settings


def read_table(path: Path) -> dict[str, Any]:
    """The TOML table in a settings file. Raises SettingsError when there is none, or it is too large."""
    try:
        return toml_table(plain_text(path, MAX_SETTINGS_BYTES))
    except FileNotFoundError as err:
        raise SettingsError(f"there is no settings file {path}; `ostiary first-boot` writes one") from err
    except OSError as err:
        raise SettingsError(f"cannot read settings from {path}: {why(err)}") from err
    except ValueError as err:
        raise SettingsError(f"cannot read settings from {path}: {err}") from err


def retired(table: dict[str, Any], prefix: str = "") -> typing.Iterator[str]:
    """A sentence for each key of `table` that counts for nothing any more."""
    for key, value in table.items():
        if instead := RETIRED.get(f"{prefix}{key}"):
            yield f"`{prefix}{key}` counts for nothing: {instead}"
        elif isinstance(value, dict):
            yield from retired(value, f"{prefix}{key}.")


def build(base: Any, table: dict[str, Any], prefix: str, mistakes: list[str]) -> Any:
    """`base` with the values of `table`; appends what is wrong to `mistakes` and keeps the base's value."""
    known = {item.name: item for item in fields(base)}
    hints = typing.get_type_hints(type(base))
    values: dict[str, Any] = {}
    for key, value in table.items():
        if f"{prefix}{key}" in RETIRED:
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean `{near[0]}`?" if near else f"; known: {', '.join(known)}"
            mistakes.append(f"unknown key `{prefix}{key}`{hint}")
        elif is_dataclass(getattr(base, key)):
            if isinstance(value, dict):
                values[key] = build(getattr(base, key), value, f"{prefix}{key}.", mistakes)
            else:
                mistakes.append(f"`{prefix}{key}` must be a table")
        else:
            try:
                values[key] = _convert(value, hints[key], known[key].metadata)
            except ValueError as err:
                mistakes.append(f"`{prefix}{key}` {err}")
    try:
        return replace(base, **values)
    except ValueError as err:
        mistakes.append(f"`{prefix.rstrip('.') or 'settings'}`: {err}")
        return base


_PLAIN = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    Path: "a path, which is a text",
}


def _shown(value: Any) -> str:
    """A value as TOML writes it, shortened."""
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    return str(value).lower() if isinstance(value, bool) else repr(value)[:60]


def _convert(value: Any, wanted: Any, limits: typing.Mapping[str, Any]) -> Any:
    """`value` as the type `wanted`. Raises ValueError saying what it must be."""
    if isinstance(wanted, types.UnionType):
        wanted = next(a for a in typing.get_args(wanted) if a is not types.NoneType)
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, list):
            raise ValueError("must be a list")
        return tuple(_convert(item, typing.get_args(wanted)[0], {}) for item in value)
    if issubclass(wanted, StrEnum):
        if value not in list(wanted):
            raise ValueError(f"must be one of {', '.join(wanted)}, not {value!r}")
        return wanted(value)
    if wanted is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise ValueError("must be finite") from None
    if wanted is Path and isinstance(value, str):
        value = Path(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise ValueError(f"must be {_PLAIN[wanted]}, not {_shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be finite")
    if "low" in limits and not limits["low"] <= value <= limits["high"]:
        raise ValueError(f"must be between {limits['low']} and {limits['high']}, not {value!r}")
    return value
