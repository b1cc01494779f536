"""How much work a function does, in lines of Python: the same number on a slow machine and on a busy one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def steps(function: Callable[[], object]) -> int:
    """Lines of Python that run while `function` runs, in this thread."""
    lines = 0

    def note(_frame: FrameType, event: str, _told: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines
