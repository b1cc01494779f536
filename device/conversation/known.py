"""People of the vault who may be recognised in a conversation: by consent, and for as long as it takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from device.access.voices import voiceprint
from device.conversation.diarization import Known
from device.errors import DeviceError
from device.model_store.calibration import Calibration
from device.secure_store import Vault


class NobodyKnownError(DeviceError):
    """Nobody may be recognised; the message says why."""


@contextmanager
def known_people(
    vault: Vault, calibration: Calibration, model: str, consent_texts: Collection[str], *, production: bool
) -> Iterator[Known]:
    """Templates of everybody whose consent holds and covers it, overwritten afterwards.

    Raises NobodyKnownError where there is nobody: a list that is empty by mistake would turn everybody into
    strangers without a word.
    """
    if production and not consent_texts:
        raise NobodyKnownError(
            "no consent text covers being recognised in conversations; name its versions in "
            "[conversation] consent_texts"
        )
    with ExitStack() as single:
        vectors = {}
        for uid in vault.uids():
            if consent_texts and vault.consent(uid).text_version not in consent_texts:
                continue
            vector = single.enter_context(voiceprint(vault, uid, model))
            if vector is not None:
                vectors[uid] = np.array(vector)
    try:
        if not vectors:
            raise NobodyKnownError(
                "nobody is enrolled whose consent covers being recognised in conversations; leave out --known"
            )
        yield Known(vectors, calibration.llr)
    finally:
        for vector in vectors.values():
            vector[:] = 0.0
