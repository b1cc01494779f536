"""Voiceprints that a thief cannot use and a person can take back: `open_store` is the way in."""

from device.secure_store.errors import (
    ConsentError,
    ModelChangedError,
    NotEnrolledError,
    RecordDamagedError,
    RollbackError,
    SealPolicyError,
    StoreError,
    StoreUnavailableError,
    TpmBusyError,
    TpmLockedError,
)
from device.secure_store.settings import StoreSettings
from device.secure_store.store import Store, open_store
from device.secure_store.voiceprints.growing import Growing
from device.secure_store.voiceprints.receipt import DeletionReceipt, verify_receipt
from device.secure_store.voiceprints.records import Consent
from device.secure_store.voiceprints.templates import DoorVector, Template
from device.secure_store.voiceprints.vault import Vault

__all__ = [
    "Consent",
    "ConsentError",
    "DeletionReceipt",
    "DoorVector",
    "Growing",
    "ModelChangedError",
    "NotEnrolledError",
    "RecordDamagedError",
    "RollbackError",
    "SealPolicyError",
    "Store",
    "StoreError",
    "StoreSettings",
    "StoreUnavailableError",
    "Template",
    "TpmBusyError",
    "TpmLockedError",
    "Vault",
    "open_store",
    "verify_receipt",
]
