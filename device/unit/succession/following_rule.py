"""Which attempts a voiceprint follows: well inside, at the first phrase, near to what was enrolled. Pure.

What is kept is measured against the enrolled voiceprint and never against what was kept before, so it cannot
be led away step by step (docs/adr/0081).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from device.evidence.voice.followed import MOST
from device.secure_store import Growing

WITHIN_DAYS = 180
"""Older ones are dropped when one is added."""
RENEWED_AFTER_DAYS = 7
"""Once there are MOST, the oldest makes room so seldom: each change is a write of vault and TPM."""

Embedding = npt.NDArray[np.float32]


def with_another(
    before: Growing | None, model: str, day: int, heard: Embedding, near: Callable[[Embedding], bool]
) -> Growing | None:
    """What is followed once `heard`, a unit embedding by `model`, is added on `day` (UTC, since 1970); None
    where it is not added.

    1. It is near to the enrolled voiceprint. 2. Another model's are dropped, and so are old ones and those
    that are not near to what is enrolled now. 3. One a day, and none before the last; of MOST the oldest
    goes, RENEWED_AFTER_DAYS after the last was added.
    """
    if not near(heard):  # 1
        return None
    days: list[int] = []
    rows: list[Embedding] = []
    if before is not None and before.model == model:  # 2
        if day <= before.days[-1]:  # 3
            return None
        kept = zip(before.days, before.vectors, strict=True)
        for at, row in kept:
            if day - at <= WITHIN_DAYS and near(row):
                days.append(at)
                rows.append(row)
    if len(days) >= MOST:
        if day - days[-1] < RENEWED_AFTER_DAYS:
            return None
        days, rows = days[1 - MOST :], rows[1 - MOST :]
    return Growing(model, (*days, day), np.stack([*rows, heard]).astype(np.float32))
