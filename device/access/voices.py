"""Voiceprints in the clear, for as long as one attempt takes: one person's, or all that may pass a door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import numpy.typing as npt

from device.access.permissions import may_ever_pass
from device.access.rules import Rules
from device.evidence.gallery import Gallery
from device.evidence.judge import SpeakerCheck, Voice
from device.secure_store import ConsentError, ModelChangedError, NotEnrolledError, StoreError, Vault

MAX_AGE_S = 3600.0


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
def claimed(vault: Vault, uid: str, model: str, successor: str | None) -> Iterator[Voice | None]:
    """What a person who is claimed is held against: by the successor for people who have come over to it."""
    if successor is not None:
        with voiceprint(vault, uid, successor) as vector:
            if vector is not None:
                yield Voice(vector, successor)
                return
    with voiceprint(vault, uid, model) as vector:
        yield None if vector is None else Voice(vector, model, grows=successor is not None)


@contextmanager
def gallery(vault: Vault, rules: Rules, door_name: str, model: str) -> Iterator[Gallery]:
    """The templates of everybody who may pass the door at some hour, overwritten afterwards."""
    door = rules.doors[door_name]
    with ExitStack() as single:
        voices = {}
        for uid in vault.uids():
            if may_ever_pass(rules, door, uid):
                vector = single.enter_context(voiceprint(vault, uid, model))
                if vector is not None:
                    voices[uid] = vector
        found = Gallery(voices)
    try:
        yield found
    finally:
        found.wipe()


class GalleryCache:
    """The gallery of a door that asks for no claim, opened once and kept until something changes.

    Opening a thousand voiceprints takes seconds, which nobody waits at a door. The price: they are in the
    clear in this process for as long as it runs, where a door that asks for a claim opens one at a time.
    """

    def __init__(self, vault: Vault, model: str) -> None:
        self._vault = vault
        self._model = model
        self._key: tuple[object, ...] = ()
        self._made_s = 0.0
        self._open = ExitStack()
        self._gallery = Gallery({})

    def at(self, door_name: str, rules: Rules, now_s: float) -> Gallery:
        """Everybody who may pass now; opened anew when vault, rules or, after an hour, consents may have
        changed.
        """
        status = self._vault.status()
        key = (status.counter, status.epoch, rules.version, door_name)
        if key != self._key or now_s - self._made_s > MAX_AGE_S:
            self.close()
            self._gallery = self._open.enter_context(gallery(self._vault, rules, door_name, self._model))
            self._key, self._made_s = key, now_s
        return self._gallery

    def close(self) -> None:
        """Overwrite what is open."""
        self._key = ()
        self._open.close()


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
