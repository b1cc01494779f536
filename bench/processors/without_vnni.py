"""Tell the libraries of a Python environment that there are no AVX-512 registers: for `scripts/without-vnni`.

    python -m bench.processors.without_vnni COPY/.venv

A library may use AVX-512, and with it VNNI, where XGETBV says that the system saves those registers. Every
such question is replaced by its answer on a processor with AVX2: x87, SSE and AVX, no more. What then runs
are the very kernels of such a processor, at this one's speed. Only for a copy: the hashes of what was
installed no longer hold.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

XGETBV = b"\x0f\x01\xd0"
ANSWER = b"\xb0\x07\x90"
"""mov $7, %al; nop. As long as the question; nobody looks beyond these eight bits for AVX-512."""
ASKS_BEFORE = b"\x31\xc9"
"""xor %ecx, %ecx: of which registers. Without it near by, the three bytes are part of something else."""
READS_AFTER = (b"\xf7\xd0", b"\xf7\xd2", b"\x83\xe0", b"\x24")
"""not, and: what compilers make of `(xgetbv(0) & mask) == mask`."""
NEAR_BEFORE, NEAR_AFTER = 14, 16


def answered(code: bytes) -> tuple[bytes, int]:
    """The same library with every question answered, and how many there were."""
    changed, found = bytearray(code), 0
    for match in re.finditer(re.escape(XGETBV), code):
        at, end = match.span()
        before, after = code[max(0, at - NEAR_BEFORE) : at], code[end : end + NEAR_AFTER]
        if ASKS_BEFORE in before and any(read in after for read in READS_AFTER):
            changed[at:end] = ANSWER
            found += 1
    return bytes(changed), found


def main(environment: Path) -> int:
    """How many questions were answered, library by library, on standard output; 1 when there were none."""
    total = 0
    for library in sorted(environment.glob("lib/python*/site-packages/**/*.so*")):
        if library.is_symlink() or not library.is_file():
            continue
        code, found = answered(library.read_bytes())
        if found:
            library.unlink()  # it may be a link to another environment's file, or in use
            library.write_bytes(code)
            library.chmod(0o755)
            print(f"{found:3d} {library.name}")
            total += found
    return 0 if total else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m bench.processors.without_vnni COPY/.venv")
    sys.exit(main(Path(sys.argv[1])))
