"""People of the vault who may be recognised in a conversation: by consent, and for as long as it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from device.access.voices import voiceprint
from device.conversation.naming import Known
from device.conversation.opening import ConversationModels
from device.errors import DeviceError
from device.secure_store import Vault
from device.settings import Settings


class NobodyKnownError(DeviceError):
    """Nobody may be recognised; the message says why."""


@contextmanager
def known_people(vault: Vault, models: ConversationModels, settings: Settings) -> Iterator[Known]:
    """Templates of everybody whose consent holds and covers it, overwritten afterwards. Raises
    NobodyKnownError where there is nobody: otherwise an empty list would make everybody a stranger."""
    consent_texts = settings.conversation.consent_texts
    if settings.store.profile == "production" and not consent_texts:
        raise NobodyKnownError(
            "no consent text covers being recognised in conversations; name its versions in "
            "[conversation] consent_texts"
        )
    vectors = {}
    try:
        for uid in vault.uids():
            if consent_texts and vault.consent(uid).text_version not in consent_texts:
                continue
            with voiceprint(vault, uid, models.speaker.version, in_rooms=True) as vector:
                if vector is not None:
                    vectors[uid] = np.array(vector)
        if not vectors:
            raise NobodyKnownError(
                "nobody is enrolled whose consent covers being recognised in conversations; leave out --known"
            )
        yield Known(vectors, models.calibration.llr)
    finally:
        for vector in vectors.values():
            vector[:] = 0.0
