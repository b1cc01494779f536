"""What can go wrong in the store. A leaf exists where somebody acts differently on it."""

from __future__ import annotations

from device.errors import DeviceError


class StoreError(DeviceError):
    """The store cannot be used as asked. The message is one line and says what to do."""


class StoreUnavailableError(StoreError):
    """The machine cannot read or write the store now (full disk, rights, a busy file). Nothing is lost."""


class NotEnrolledError(StoreError):
    """There is no voiceprint for this person: the door answers DENIED_UNKNOWN."""

    exit_code = 1


class RecordDamagedError(StoreError):
    """One person's record does not verify. Enrol that person again; everybody else keeps working."""


class ConsentError(StoreError):
    """Consent is missing or has run out: the voiceprint must not be used."""


class ModelChangedError(StoreError):
    """The voiceprint was made by another embedding model: never compared, the person enrols again."""


class RollbackError(StoreError):
    """State older than what was already seen was put back. Stop and tell the operator."""


class SealPolicyError(StoreError):
    """The TPM refuses to release the key in this state of the machine. Stop and tell the operator."""


class TpmBusyError(StoreError):
    """The TPM asks for patience or does not answer. Back off, keep the door locked, try again."""


class TpmLockedError(StoreError):
    """The TPM's dictionary-attack protection is on. Wait, or clear it with the lockout password."""
