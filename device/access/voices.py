"""Voiceprints in the clear, for as long as one attempt takes: one person's, or all that may pass a door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from device.access.rules import Rules
from device.access.rules.permissions import may_ever_pass
from device.evidence.gallery import Galleries, Gallery
from device.evidence.judge import Judge
from device.evidence.voice.copies import MADE, makes
from device.evidence.voice.followed import follows as keeps
from device.evidence.voice.held import Generations, Voice
from device.evidence.voice.phrases import Shift, shift_of
from device.secure_store import (
    ConsentError,
    Growing,
    ModelChangedError,
    NotEnrolledError,
    StoreError,
    Template,
    Vault,
)

MAX_AGE_S = 3600.0

Embedding = npt.NDArray[np.float32]


@contextmanager
def voiceprint(
    vault: Vault, uid: str, model: str, *, in_rooms: bool = False
) -> Iterator[npt.NDArray[np.float32] | None]:
    """The template of `uid`, overwritten afterwards; None when there is none that may be used. `in_rooms`
    gives the door vector, where there is one that may be used."""
    try:
        template = vault.template(uid, model=model) if uid else None
    except (NotEnrolledError, ConsentError, ModelChangedError):
        template = None
    try:
        door = usable_door(template) if in_rooms and template is not None else None
        yield door if door is not None or template is None else template.vector
    finally:
        if template is not None:
            template.wipe()


@contextmanager
def claimed(vault: Vault, uid: str, models: Generations, *, follows: bool = False) -> Iterator[Voice | None]:
    """The template of a person who is claimed; overwritten afterwards. None when none may be used. One
    that has grown for the newer model counts only together with the enrolled one (`lower_llr`). What a
    voiceprint follows counts where one model decides, and `follows` says that this door's voices do."""
    with ExitStack() as held:
        template, growing, followed = _voiceprints(vault, uid, held)
        if template is None or template.model not in (models.older, models.newer):
            yield None
        elif template.model == models.newer:
            follows = follows and keeps(template.model)
            rows = _followed(template, followed) if follows else None
            yield replace(_voice(template), follows=follows, followed=rows)
        elif growing is not None and growing.ready and growing.model == models.newer:
            grown = growing.template()
            held.callback(grown.wipe)
            yield replace(_voice(template), grown=Voice(grown.vector, grown.model))
        else:
            yield replace(_voice(template), grows=True)


def _followed(template: Template, followed: Growing | None) -> Embedding | None:
    """The rows, where they are of the voiceprint's own model."""
    if followed is None or followed.model != template.model:
        return None
    return followed.vectors if followed.vectors.shape[1:] == template.vector.shape else None


def _voice(template: Template) -> Voice:
    return Voice(template.vector, template.model, door=usable_door(template), phrases=template.utterances)


def usable_door(template: Template) -> Embedding | None:
    """Its door vector, where this version has a calibration for how it was made."""
    door = template.door
    return door.vector if door is not None and door.made == MADE and makes(template.model) else None


def _voiceprints(
    vault: Vault, uid: str, held: ExitStack
) -> tuple[Template | None, Growing | None, Growing | None]:
    if not uid:  # nobody was claimed
        return None, None, None
    try:
        template, growing, followed = vault.voiceprints(uid)
    except (NotEnrolledError, ConsentError):
        return None, None, None
    for one in (template, growing, followed):
        if one is not None:
            held.callback(one.wipe)
    return template, growing, followed


@contextmanager
def gallery(vault: Vault, rules: Rules, door_name: str, models: Generations) -> Iterator[Gallery | Galleries]:
    """The templates of everybody who may pass the door at some hour, overwritten afterwards."""
    door = rules.doors[door_name]
    names = [name for name in (models.newer, models.older) if name is not None]
    with ExitStack() as single:
        voices: dict[str, dict[str, Embedding]] = {name: {} for name in names}
        doors: dict[str, Embedding] = {}
        shifts: dict[str, Shift] = {}
        for uid in vault.uids():
            if may_ever_pass(rules, door, uid):
                template, *_ = _voiceprints(vault, uid, single)
                if template is not None and template.model in voices:
                    voices[template.model][uid] = template.vector
                    shifts[uid] = shift_of(template.model, template.utterances)
                    if (vector := usable_door(template)) is not None:
                        doors[uid] = vector
        every = {name: Gallery(people, doors, shifts) for name, people in voices.items()}
    found = Galleries(every) if models.older is not None else every[models.newer]
    try:
        yield found
    finally:
        found.wipe()


class GalleryCache:
    """The gallery of a door that asks for no claim, opened once (which takes seconds) and kept until
    something changes. The price: its voiceprints are in the clear in this process meanwhile."""

    def __init__(self, vault: Vault, models: Generations) -> None:
        self._vault = vault
        self._models = models
        self._key: tuple[object, ...] = ()
        self._made_s = 0.0
        self._open = ExitStack()
        self._gallery: Gallery | Galleries = Gallery({})

    def at(self, door_name: str, rules: Rules, now_s: float) -> Gallery | Galleries:
        """Everybody who may pass now; opened anew when vault or rules changed, and each hour for consents."""
        status = self._vault.status()
        key = (status.counter, status.epoch, rules.version, door_name)
        if key != self._key or now_s - self._made_s > MAX_AGE_S:
            self.close()
            self._gallery = self._open.enter_context(gallery(self._vault, rules, door_name, self._models))
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


def alike(vault: Vault, judge: Judge, first: str, second: str) -> float:
    """The LLR that two enrolled people are one voice; NaN when it cannot be told. Of two models the one
    that finds them more alike counts."""
    found = []
    with ExitStack() as held:
        one, other = ({t.model: t for t in _templates(vault, uid, held)} for uid in (first, second))
        for speaker in (judge.newer, judge.older):
            if speaker is not None and speaker.version in one.keys() & other.keys():
                vectors = one[speaker.version].vector, other[speaker.version].vector
                found.append(speaker.llr(*vectors))
    return max(found, default=float("nan"))


def _templates(vault: Vault, uid: str, held: ExitStack) -> Iterator[Template]:
    """The enrolled template and, once it is ready, the grown one."""
    template, growing, _ = _voiceprints(vault, uid, held)
    if template is not None:
        yield template
    if growing is not None and growing.ready:
        grown = growing.template()
        held.callback(grown.wipe)
        yield grown
