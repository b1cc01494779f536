"""Voiceprints in the clear, for as long as one attempt takes: one person's, or all that may pass a door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import numpy.typing as npt

from device.gallery import Gallery
from device.judge import SpeakerCheck
from device.rules import Rules
from device.rules.access import may_ever_pass
from device.secure_store import ConsentError, ModelChangedError, NotEnrolledError, StoreError, Vault


@contextmanager
def voiceprint(vault: Vault, uid: str, model: str) -> Iterator[npt.NDArray[np.float32] | None]:
    """The template of `uid`, overwritten afterwards; None when there is none that may be used."""
    try:
        template = vault.template(uid, model=model) if uid else None
    except (NotEnrolledError, ConsentError, ModelChangedError):
        template = None
    try:
        yield None if template is None else template.vector
    finally:
        if template is not None:
            template.wipe()


@contextmanager
def gallery(vault: Vault, rules: Rules, door_name: str, model: str) -> Iterator[Gallery]:
    """The templates of everybody who may pass the door at some hour, overwritten afterwards."""
    door = rules.doors[door_name]
    with ExitStack() as opened:
        voices = {}
        for uid in vault.uids():
            if may_ever_pass(rules, door, uid):
                vector = opened.enter_context(voiceprint(vault, uid, model))
                if vector is not None:
                    voices[uid] = vector
        found = Gallery(voices)
        opened.callback(found.wipe)
        yield found


def is_enrolled(vault: Vault, uid: str) -> bool:
    try:
        vault.record_id(uid)
    except StoreError:
        return False
    return True


def alike(vault: Vault, speaker: SpeakerCheck, first: str, second: str) -> float:
    """The LLR that two enrolled people are one voice; NaN when it cannot be told."""
    model = speaker.version
    with voiceprint(vault, first, model) as one, voiceprint(vault, second, model) as other:
        return float("nan") if one is None or other is None else speaker.llr(one, other)
