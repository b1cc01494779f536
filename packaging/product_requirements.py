"""Print the part of requirements.lock that the installed product needs; tests and reports need more.

    python3 packaging/product_requirements.py > requirements

Which packages those are: the dependencies in pyproject.toml with the extras named here, and whatever they
bring, by the lock file's own `# via` lines.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("api", "registry")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def product_requirements(project: str, lock: str) -> str:
    """The blocks of `lock` that `project` (pyproject.toml) needs; raises ValueError when one is missing."""
    table = tomllib.loads(project)["project"]
    direct = list(table["dependencies"])
    for extra in EXTRAS:
        direct += table["optional-dependencies"][extra]
    needed = {_name(line) for line in direct}
    blocks = _blocks(lock)
    if missing := needed - {name for name, _, _ in blocks}:
        raise ValueError(
            f"requirements.lock lacks {', '.join(sorted(missing))}; lock again (CONTRIBUTING.md)"
        )
    while True:
        brought = {name for name, _, parents in blocks if parents & needed} - needed
        if not brought:
            return "".join(text for name, text, _ in blocks if name in needed)
        needed |= brought


def _blocks(lock: str) -> list[tuple[str, str, frozenset[str]]]:
    """(package, its lines, which packages brought it), in order."""
    found = []
    for text in re.split(r"(?m)^(?=[A-Za-z0-9])", lock):
        if not text.strip() or text.startswith("#"):
            continue
        _, _, via = text.partition("# via")
        found.append((_name(text), text, frozenset(_name(word) for word in _NAME.findall(via))))
    return found


def _name(text: str) -> str:
    match = _NAME.match(text.strip())
    if match is None:
        raise ValueError(f"no package name in {text[:40]!r}")
    return re.sub(r"[-_.]+", "-", match[0]).lower()


if __name__ == "__main__":
    sys.stdout.write(
        product_requirements((ROOT / "pyproject.toml").read_text(), (ROOT / "requirements.lock").read_text())
    )
