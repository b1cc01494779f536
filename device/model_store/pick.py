"""Remembers which runtime serves which network on this machine, until anything of it changes.

A bundle may hold a network twice, as ONNX and as its TFLite variant. Both were proven to answer alike when
they were built, so the choice is one of speed alone, and altering the remembered file gains nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from device.model_store.bundle import Bundle, read_limited
from device.model_store.manifest import BundleError
from device.model_store.sessions import (
    ONNX_FORMS,
    OnnxSession,
    Runtime,
    Session,
    SessionError,
    open_session,
)
from sync.durable import replace_file
from sync.errors import MALFORMED

PICK_NAME = "pick.json"
MAX_PICK_BYTES = 64 * 1024
VARIANT_SUFFIX = "-tflite"
VARIANT_SOURCE = "onnx"
"""Under this name a variant's manifest entry states the SHA-256 of the ONNX file it was made from."""

_RUNTIME_PACKAGES = ("onnxruntime", "tflite-runtime", "ai-edge-litert", "numpy", "ostiary")

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Timing:
    """One network in one runtime: how long it took, between which values half of the rounds lay, and how much
    processor time that was."""

    median_ms: float
    low_ms: float
    high_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Pick:
    """What `ostiary models pick` found, and for which machine and bundle."""

    machine: str = ""
    bundle: str = ""
    runtimes: Mapping[str, Runtime] = field(default_factory=lambda: MappingProxyType({}))
    """By role; a role that is not named runs in ONNX Runtime."""
    timings: Mapping[str, Mapping[str, Timing]] = field(default_factory=lambda: MappingProxyType({}))
    """By role, then by `runtime/threads`."""

    def runtime(self, role: str) -> Runtime:
        return self.runtimes.get(role, Runtime.ONNX)

    def to_bytes(self) -> bytes:
        timings = {
            role: {name: [t.median_ms, t.low_ms, t.high_ms, t.cpu_ms] for name, t in found.items()}
            for role, found in self.timings.items()
        }
        document = {
            "machine": self.machine, "bundle": self.bundle, "runtimes": dict(self.runtimes),
            "timings": timings,
        }  # fmt: skip
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Pick:
        """Raises BundleError for anything but what `to_bytes` writes."""
        try:
            document = json.loads(data)
            timings = {
                str(role): {str(name): Timing(*map(float, values)) for name, values in found.items()}
                for role, found in document["timings"].items()
            }
            runtimes = {str(role): Runtime(name) for role, name in document["runtimes"].items()}
            return cls(str(document["machine"]), str(document["bundle"]), runtimes, timings)
        except MALFORMED as err:
            raise BundleError(f"{PICK_NAME} is damaged; run `ostiary models pick` again") from err


def read(models: Path, bundle: Bundle) -> Pick:
    """What was picked for this machine and this bundle; an empty Pick, which means ONNX, when nothing was.
    Raises BundleError for a file that is damaged."""
    if not os.path.lexists(models / PICK_NAME):
        return Pick()
    pick = Pick.from_bytes(read_limited(models / PICK_NAME, MAX_PICK_BYTES))
    return pick if (pick.machine, pick.bundle) == (machine(), identity(bundle)) else Pick()


def remembered(models: Path, bundle: Bundle, notify: Notify) -> Pick:
    """Like `read`, but a damaged file only costs speed: `notify` hears of it."""
    try:
        return read(models, bundle)
    except BundleError as err:
        notify(f"models: {err}")
        return Pick()


def write(models: Path, pick: Pick) -> None:
    """Remember `pick`, in one step."""
    replace_file(models / PICK_NAME, pick.to_bytes(), 0o644)


def machine() -> str:
    """Changes when the processor, the number of its cores, or the version of what computes does."""
    facts = [platform.machine(), str(os.cpu_count()), _processor()]
    for package in _RUNTIME_PACKAGES:
        try:
            facts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            facts.append(f"no {package}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _processor() -> str:
    """The first core's name and features as Linux states them."""
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part", "CPU variant")
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return platform.processor()
    return "\n".join(line for line in first.splitlines() if line.split("\t")[0].strip() in wanted)


def identity(bundle: Bundle) -> str:
    """The bundle's name: the SHA-256 of its manifest."""
    return hashlib.sha256(bundle.manifest_bytes).hexdigest()


def tflite_variant(bundle: Bundle, role: str) -> Path:
    """The TFLite file of `role`; raises BundleError when there is none, or it is another network's."""
    entry = bundle.manifest.entry(f"{role}{VARIANT_SUFFIX}")
    if entry.source.get(VARIANT_SOURCE) != bundle.manifest.entry(role).sha256:
        raise BundleError(
            f"the bundle's {entry.role} was not made from its {role}; run `ostiary models build`"
        )
    return bundle.directory / entry.name


def has_variant(bundle: Bundle, role: str) -> bool:
    """Whether `role` can run in TFLite at all."""
    return any(entry.role == f"{role}{VARIANT_SUFFIX}" for entry in bundle.manifest.files)


def served_by(bundle: Bundle, role: str, runtime: Runtime) -> Path:
    """The file of `role` that `runtime` opens; raises BundleError when it has none."""
    return bundle.path(role) if runtime in ONNX_FORMS else tflite_variant(bundle, role)


def open_role(
    bundle: Bundle, role: str, threads: int, runtime: Runtime, notify: Notify = lambda _: None
) -> Session:
    """The network of `role` in `runtime`, or in ONNX Runtime when that cannot be, and `notify` hears why.
    Raises SessionError or BundleError when ONNX Runtime cannot open it either."""
    if runtime is not Runtime.ONNX:
        try:
            return open_session(served_by(bundle, role, runtime), runtime, threads)
        except (SessionError, BundleError) as err:
            notify(f"models: {err}; {role} runs in ONNX Runtime")
    return OnnxSession(bundle.path(role), threads)
