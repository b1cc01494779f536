"""The line to the TPM: connections, sessions, loaded objects, and the meaning of its answers."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("TSS2_LOG", "all+none")  # its complaints come to us as return codes

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from tpm2_pytss import ESAPI, TPM2B_PRIVATE, TPM2B_PUBLIC, TSS2_Exception
from tpm2_pytss.constants import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_HC,
    TPM2_RC,
    TPM2_SE,
    TPM2_SU,
    TPMA_SESSION,
)
from tpm2_pytss.types import TPMT_SYM_DEF

from device.secure_store.errors import SealPolicyError, StoreError, TpmBusyError, TpmLockedError

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

_PATIENCE_S = 3.0
ANSWER_WITHIN_S = 30.0
"""The slowest chips take seconds for one command; beyond this a TPM is silent."""
_silent: dict[str, threading.Thread] = {}
"""By TCTI: the thread that still waits for a silent TPM."""
_BUSY = {TPM2_RC.RETRY, TPM2_RC.YIELDED, TPM2_RC.TESTING, TPM2_RC.NV_RATE, TPM2_RC.NV_UNAVAILABLE}
_POLICY = {TPM2_RC.POLICY_FAIL, TPM2_RC.POLICY, TPM2_RC.PCR_CHANGED, TPM2_RC.VALUE, TPM2_RC.SIGNATURE}
_FOREIGN = {TPM2_RC.INTEGRITY, TPM2_RC.AUTH_FAIL, TPM2_RC.BAD_AUTH}


@dataclass(frozen=True, slots=True)
class TpmObject:
    """An object only its TPM can load: public part, and private part enciphered by the TPM."""

    public: bytes
    private: bytes

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The same object each time: whatever is signed is looked up by its key, and keys are kept there."""
        return _public_key(self.public)

    def name(self) -> bytes:
        public, _ = TPM2B_PUBLIC.unmarshal(self.public)
        return bytes(public.get_name())


@lru_cache(maxsize=16)
def _public_key(public: bytes) -> ec.EllipticCurvePublicKey:
    key = load_der_public_key(TPM2B_PUBLIC.unmarshal(public)[0].to_der())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise StoreError("the TPM object is not an elliptic-curve key")
    return key


class TpmLink:
    """One TPM behind one TCTI string. Safe for threads."""

    def __init__(self, tcti: str, parent_handle: int, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self.tcti = tcti
        self._answer_within_s = answer_within_s
        self._parent_handle = parent_handle
        self._lock = threading.Lock()
        # Without a resource manager, what a killed process loaded stays loaded and eats the TPM's few slots.
        self._bare = not (tcti.startswith("device:/dev/tpmrm") or tcti.startswith("tabrmd"))
        self.pinned_parent: bytes | None = None
        """The parent key's name, once known. Sessions are salted to it and to nothing else."""

    def run(self, work: Callable[[ESAPI], T]) -> T:
        """Connect, work, disconnect. Repeats a command that the TPM put off, but not after a lost answer."""
        deadline = time.monotonic() + _PATIENCE_S
        pause_s = 0.01
        while True:
            with self._lock:
                try:
                    return self._in_time(work)
                except TSS2_Exception as err:
                    if not (_base(err) in _BUSY and time.monotonic() < deadline):
                        raise self._explain(err) from err
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.3)

    def _in_time(self, work: Callable[[ESAPI], T]) -> T:
        """Work in a thread that may be left behind, since the TSS has no deadlines. Raises TpmBusyError after
        one, and at once while an earlier thread still waits.
        """
        found: list[T] = []
        failed: list[BaseException] = []

        def answer() -> None:
            try:
                with self._alone(), self._connected() as tpm:
                    found.append(work(tpm))
            except BaseException as err:  # noqa: BLE001 - raised again where it was asked for
                failed.append(err)

        before = _silent.get(self.tcti)
        if before is None or not before.is_alive():
            asking = threading.Thread(target=answer, name="tpm", daemon=True)
            asking.start()
            asking.join(self._answer_within_s)
            if not asking.is_alive():
                _silent.pop(self.tcti, None)
                if failed:
                    raise failed[0]
                return found[0]
            _silent[self.tcti] = asking
        raise TpmBusyError(
            f"the TPM at {self.tcti} takes connections and says nothing; restart what offers it"
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time use a TPM without a resource manager (swtpm, on a laptop).

        It may accept a second client before the first has gone, and one then flushes what the other loaded.
        """
        if not self._bare:
            yield
            return
        name = hashlib.sha256(self.tcti.encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"ostiary-tpm-{os.getuid()}-{name}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _connected(self) -> Iterator[ESAPI]:
        try:
            tpm = ESAPI(self.tcti)
        except (TSS2_Exception, RuntimeError, OSError) as err:
            raise TpmBusyError(
                f"no TPM answers at {self.tcti}; is it there, and is nobody else using it?"
            ) from err
        try:
            if self._bare:
                _start(tpm)
                for kind in (TPM2_HC.TRANSIENT_FIRST, TPM2_HC.LOADED_SESSION_FIRST):
                    for handle in handles(tpm, kind):
                        tpm.flush_context(tpm.tr_from_tpmpublic(handle))
            yield tpm
        finally:
            tpm.close()

    def parent(self, tpm: ESAPI) -> Any:
        try:
            parent = tpm.tr_from_tpmpublic(self._parent_handle)
        except TSS2_Exception as err:
            if _base(err) != TPM2_RC.HANDLE:
                raise
            raise SealPolicyError(
                "this TPM does not hold this store's key: the disk comes from another unit"
            ) from err
        if self.pinned_parent is not None and bytes(tpm.tr_get_name(parent)) != self.pinned_parent:
            raise SealPolicyError("this is not the TPM that this store was made with")
        return parent

    @contextmanager
    def session(self, tpm: ESAPI, kind: Any = TPM2_SE.HMAC) -> Iterator[Any]:
        """Salted to the parent key; parameters of an HMAC session travel enciphered both ways."""
        cipher = TPMT_SYM_DEF.parse("aes128cfb")
        with loaded(
            tpm, tpm.start_auth_session(self.parent(tpm), ESYS_TR.NONE, kind, cipher, TPM2_ALG.SHA256)
        ) as session:
            attributes = TPMA_SESSION.CONTINUESESSION
            if kind == TPM2_SE.HMAC:
                attributes |= TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT
            tpm.trsess_set_attributes(session, attributes)
            yield session

    @contextmanager
    def load(self, tpm: ESAPI, item: TpmObject, session: Any = ESYS_TR.PASSWORD) -> Iterator[Any]:
        private, _ = TPM2B_PRIVATE.unmarshal(item.private)
        public, _ = TPM2B_PUBLIC.unmarshal(item.public)
        with loaded(tpm, tpm.load(self.parent(tpm), private, public, session1=session)) as handle:
            yield handle

    def _explain(self, err: TSS2_Exception) -> StoreError:
        code = _base(err)
        _LOG.debug("the TPM says: %s", err)
        if code == TPM2_RC.LOCKOUT:
            return TpmLockedError(
                "the TPM is locked by too many wrong passwords (none of them ours); wait, or clear it with "
                "`tpm2_dictionarylockout --clear-lockout`"
            )
        if code in _BUSY or (err.rc >> 16) & 0xFF:  # the upper byte is a layer of the TSS: no answer came
            return TpmBusyError("the TPM does not answer; it may be busy or restarting")
        if code in _POLICY:
            return SealPolicyError(
                "the TPM refuses the key in this state of the machine; start it as it was approved, or "
                "`ostiary store reseal` with a signed policy"
            )
        if code in _FOREIGN:
            return SealPolicyError("the key was sealed by another TPM, or its file is damaged")
        return StoreError(f"the TPM refused what was asked of it (code {err.rc:#x}); run `ostiary doctor`")


@contextmanager
def loaded(tpm: ESAPI, handle: Any) -> Iterator[Any]:
    """Flushes `handle` at the end: a TPM has three slots."""
    try:
        yield handle
    finally:
        tpm.flush_context(handle)


def _start(tpm: ESAPI) -> None:
    try:
        tpm.startup(TPM2_SU.CLEAR)
    except TSS2_Exception as err:
        if _base(err) != TPM2_RC.INITIALIZE:  # it was started already: the usual case
            raise


def handles(tpm: ESAPI, first: int) -> list[int]:
    _, data = tpm.get_capability(TPM2_CAP.HANDLES, first, 254)
    return [int(handle) for handle in data.data.handles]


def _base(err: TSS2_Exception) -> int:
    """The TPM's return code without the number of the parameter it complains about."""
    return int(err.error)
