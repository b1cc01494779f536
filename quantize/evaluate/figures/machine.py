"""Which machine made a figure: a timing without it says nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


def describe_machine() -> str:
    """Processor, core count, architecture and operating system in one line; no host name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{_processor()}, {cores} cores, {platform.machine()}, {platform.system()} {platform.release()}"


def _processor() -> str:
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        # ARM boards name the board ("Raspberry Pi 5 Model B"), x86 names the chip.
        if name.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.processor() or "unknown processor"
