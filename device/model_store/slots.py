"""The bundles a unit has accepted: the one in use and the last good one, behind one small file.

`shelf.json` names both, the last accepted version and the key that must have signed. It is replaced in one
step, after everything it names is on disk, so a power cut leaves the old or the new. A unit that was never
given a signed bundle has no slots and opens the bundle that was built on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.errors import DeviceError
from device.model_store.bundle import (
    MANIFEST_NAME,
    SIGNATURE_BYTES,
    SIGNATURE_NAME,
    Bundle,
    Trust,
    check_signature,
    open_within,
    read_limited,
)
from device.model_store.manifest import MAX_MANIFEST_BYTES, MAX_VERSION, BundleError, Manifest
from device.model_store.minimum_versions import MinimumVersions
from sync.durable import replace_file, sync_folder
from sync.errors import MALFORMED
from sync.plain_file import check_plain_or_new
from sync.plain_words import what_and_why

SLOTS_NAME = "shelf.json"  # as units have it on their disks
BUNDLES_NAME = "bundles"
MAX_SHELF_BYTES = 4096
_USE_AGAIN = "run `ostiary models use` with the newest signed bundle"

MAX_REPLACEMENTS = 20
"""How often in a row a bundle may be replaced while it is opened."""

T = TypeVar("T")

_IDENTITY = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Slots:
    """What the unit has accepted. Bundles are named by the SHA-256 of their manifest."""

    key: str
    """The Ed25519 public key, raw, in hexadecimal."""
    accepted_version: int
    current: str
    previous: str = ""

    def __post_init__(self) -> None:
        names = [self.key, self.current, *([self.previous] if self.previous else [])]
        named = all(isinstance(name, str) and _IDENTITY.fullmatch(name) for name in names)
        version = self.accepted_version
        if not named or type(version) is not int or not 1 <= version < MAX_VERSION:
            raise BundleError(f"{SLOTS_NAME} is damaged; {_USE_AGAIN}")

    @property
    def public_key(self) -> Ed25519PublicKey:
        try:
            return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
        except ValueError as err:
            raise BundleError(f"{SLOTS_NAME} holds no usable key; {_USE_AGAIN}") from err


def active(
    models: Path, notify: Callable[[str], None] = lambda text: None, minimum: MinimumVersions | None = None
) -> Bundle:
    """The verified bundle this unit works with, none below `minimum`; raises BundleError when there is
    none. Where the current one does not pass, the last good one is opened and `notify` hears why."""
    slots = read_slots(models)
    if slots is None:
        if minimum is not None:
            raise BundleError(f"{SLOTS_NAME} is gone, and this unit accepted bundles; {_USE_AGAIN}")
        return Bundle.open(models)
    if minimum is not None and slots.key != minimum.key:
        raise BundleError(f"{SLOTS_NAME} names another key than this unit's store remembers; refused")
    try:
        current = _open_named(models, slots.current, slots)
    except BundleError as err:
        if not slots.previous:
            raise
        bundle = _open_named(models, slots.previous, slots)
        if minimum is not None:
            _not_below(bundle, minimum.fallback)
        notify(f"models: {err}; working with the last good bundle, version {bundle.manifest.version}")
        return bundle
    if minimum is not None:
        _not_below(current, minimum.version)
    return current


def reached(models: Path) -> MinimumVersions | None:
    """The minimum that this unit has reached, by the signed manifests that its slots name; None without
    slots. A manifest that is damaged says nothing: the unit may be working with the last good bundle."""
    slots = read_slots(models)
    if slots is None:
        return None
    versions = []
    for identity in (slots.current, slots.previous):
        with suppress(BundleError):
            versions += [_signed_version(models, identity, slots)] if identity else []
    return MinimumVersions(slots.key, versions[0], min(versions)) if versions else None


def steadily(
    models: Path,
    open_with: Callable[[Bundle], T],
    notify: Callable[[str], None] = lambda text: None,
    minimum: MinimumVersions | None = None,
) -> T:
    """What `open_with` makes of the active bundle; begins again when the bundle is replaced meanwhile.
    Raises what `open_with` raised when nothing was replaced, BundleError instead of OSError."""
    left = MAX_REPLACEMENTS
    while True:
        before = _state(models)
        try:
            return open_with(active(models, notify, minimum))
        except (DeviceError, OSError) as err:
            left -= 1
            if left and _state(models) != before:
                continue
            if isinstance(err, DeviceError):
                raise
            raise BundleError(
                f"a model cannot be opened ({what_and_why(err)}); run `ostiary doctor`"
            ) from err


def _state(models: Path) -> list[bytes]:
    """What changes whenever another bundle takes effect."""
    found = []
    for name in (SLOTS_NAME, MANIFEST_NAME):
        try:
            found.append(read_limited(models / name, MAX_MANIFEST_BYTES))
        except BundleError:
            found.append(b"")
    return found


def use(
    models: Path, candidate: Path, key: Ed25519PublicKey | None = None, minimum: MinimumVersions | None = None
) -> Bundle:
    """Accept the signed bundle in `candidate`; raises BundleError, and changes nothing, when it must not
    be. `key` is needed the first time; later it must be the same. A copy is checked, so nobody can change
    it meanwhile. One below `minimum` is refused; the caller raises it to what was `reached`."""
    with _alone(models):
        slots = _mine(models, minimum)
        trusted = _trusted(slots, key)
        if minimum is not None and trusted.public_bytes_raw().hex() != minimum.key:
            raise BundleError("this unit already trusts another key; refused")
        lowest = slots.accepted_version if slots is not None else 1
        if minimum is not None:
            lowest = max(lowest, minimum.version)
        bundles = models / BUNDLES_NAME
        _clear(bundles, set())
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=bundles) as work:
            copy = Path(work) / "bundle"
            identity = _copy(candidate, copy, trusted)
            bundle = Bundle.open(copy, Trust(trusted, lowest))
            home = bundles / identity
            if not _holds(home, trusted):
                shutil.rmtree(home, ignore_errors=True)
                copy.replace(home)
                sync_folder(bundles)
        previous = _last_good(models, slots, identity)
        accepted = Slots(trusted.public_bytes_raw().hex(), bundle.manifest.version, identity, previous)
        replace_file(models / SLOTS_NAME, json.dumps(asdict(accepted), sort_keys=True).encode(), 0o644)
        _clear(bundles, {identity, previous})
        return Bundle(home, bundle.manifest, bundle.manifest_bytes)


def go_back(models: Path, leaving: str) -> None:
    """From the bundle `leaving` to the last good one; on a unit that had none signed, to what it built.
    Does nothing when another one is in use. Raises BundleError where the last good one does not pass."""
    with _alone(models):
        slots = read_slots(models)
        if slots is None or slots.current != leaving:
            return
        if slots.previous:
            _open_named(models, slots.previous, slots)
            back = Slots(slots.key, slots.accepted_version, slots.previous)
            replace_file(models / SLOTS_NAME, json.dumps(asdict(back), sort_keys=True).encode(), 0o644)
            return
        (models / SLOTS_NAME).unlink()
        sync_folder(models)


def read_slots(models: Path) -> Slots | None:
    """What `models` has accepted, or None on a unit that was never given a signed bundle."""
    if not os.path.lexists(models / SLOTS_NAME):
        return None
    try:
        return Slots(**json.loads(read_limited(models / SLOTS_NAME, MAX_SHELF_BYTES)))
    except MALFORMED as err:
        raise BundleError(f"{SLOTS_NAME} is damaged; {_USE_AGAIN}") from err


def _mine(models: Path, minimum: MinimumVersions | None) -> Slots | None:
    """The slots to build on; none where it is not this unit's, and its store says what is to be trusted."""
    if minimum is None:
        return read_slots(models)
    try:
        slots = read_slots(models)
    except BundleError:
        return None
    return slots if slots is not None and slots.key == minimum.key else None


def _not_below(bundle: Bundle, lowest: int) -> None:
    if bundle.manifest.version < lowest:
        raise BundleError(
            f"bundle version {bundle.manifest.version} is below {lowest}, which this unit's store remembers: "
            f"an older one was put back; {_USE_AGAIN}"
        )


def _signed_version(models: Path, identity: str, slots: Slots) -> int:
    """By its manifest alone, which the key has signed; what the files are worth is not looked at."""
    home = models / BUNDLES_NAME / identity
    raw = read_limited(home / MANIFEST_NAME, MAX_MANIFEST_BYTES)
    check_signature(home, raw, slots.public_key)
    if hashlib.sha256(raw).hexdigest() != identity:
        raise BundleError("the bundle is not the one that was accepted; refused")
    return Manifest.from_bytes(raw).version


def _open_named(models: Path, identity: str, slots: Slots) -> Bundle:
    """An accepted bundle again. Its version was judged at acceptance; its name pins its manifest since."""
    home = models / BUNDLES_NAME / identity
    bundle = Bundle.open(home, Trust(slots.public_key))
    if hashlib.sha256(bundle.manifest_bytes).hexdigest() != identity:
        raise BundleError("the bundle is not the one that was accepted; refused")
    return bundle


def _trusted(slots: Slots | None, key: Ed25519PublicKey | None) -> Ed25519PublicKey:
    if slots is None:
        if key is None:
            raise BundleError("this unit trusts no key yet; name the public key with --key")
        return key
    if key is not None and key.public_bytes_raw().hex() != slots.key:
        raise BundleError("this unit already trusts another key; refused")
    return slots.public_key


def _last_good(models: Path, slots: Slots | None, new: str) -> str:
    """The bundle to fall back on: the one in use until now, if it still passes, else the one before."""
    if slots is None:
        return ""
    for identity in (slots.current, slots.previous):
        if identity and identity != new:
            try:
                _open_named(models, identity, slots)
            except BundleError:
                continue
            return identity
    return ""


def _holds(home: Path, key: Ed25519PublicKey) -> bool:
    """Whether an accepted bundle is there and whole: then it is not touched, it may be in use."""
    try:
        Bundle.open(home, Trust(key))
    except BundleError:
        return False
    return True


def _copy(candidate: Path, copy: Path, key: Ed25519PublicKey) -> str:
    """Copy what the signed manifest names, and no byte more than it states; returns the bundle's name."""
    raw = read_limited(candidate / MANIFEST_NAME, MAX_MANIFEST_BYTES)
    check_signature(candidate, raw, key)
    manifest = Manifest.from_bytes(raw)
    copy.mkdir()
    replace_file(copy / MANIFEST_NAME, raw, 0o644)
    signature = read_limited(candidate / SIGNATURE_NAME, SIGNATURE_BYTES)
    replace_file(copy / SIGNATURE_NAME, signature, 0o644)
    for entry in manifest.files:
        with open_within(candidate / entry.name) as stream, (copy / entry.name).open("wb") as sink:
            left = entry.size_bytes + 1
            while left and (chunk := stream.read(min(left, _CHUNK_BYTES))):
                sink.write(chunk)
                left -= len(chunk)
            sink.flush()
            os.fsync(sink.fileno())
    sync_folder(copy)
    return hashlib.sha256(raw).hexdigest()


def _clear(bundles: Path, keep: set[str]) -> None:
    """Remove what an interrupted run left and, when `keep` names some, every other bundle."""
    for item in list(bundles.iterdir()):
        if item.name.startswith(".partial-") or (keep and item.name not in keep):
            shutil.rmtree(item, ignore_errors=True)


@contextmanager
def _alone(models: Path) -> Iterator[None]:
    (models / BUNDLES_NAME).mkdir(parents=True, exist_ok=True)
    with check_plain_or_new(models / "slots.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
