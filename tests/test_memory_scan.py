"""The search that other tests rely on: it finds what is there, and never what it was asked for."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.memory_scan import as_the_service, masked

PLAIN = os.urandom(48)
SEARCHED = """
import sys, threading
import numpy as np
from tests.memory_scan import MASK, counts

np.zeros(30 << 20, np.uint8)  # from now on large blocks come out of an arena, beside the needles

def search():
    needles = [bytes.fromhex(word) for word in sys.argv[1:]]
    kept = [b"x" * (1 << 20) for _ in range(9)]
    there = bytearray(byte ^ MASK for byte in needles[0])
    print(*(count for _ in range(6) for count in counts(needles)))

thread = threading.Thread(target=search)
thread.start()
thread.join()
"""


def test_a_search_finds_what_is_there_and_not_itself() -> None:
    asked = [masked(PLAIN), *(masked(os.urandom(48)) for _ in range(11))]
    done = subprocess.run(
        [sys.executable, "-c", SEARCHED, *asked],
        env={**os.environ, **as_the_service("door")},
        capture_output=True,
        check=True,
        timeout=180,
    )
    assert done.stdout.split() == ([b"1"] + [b"0"] * 11) * 6
