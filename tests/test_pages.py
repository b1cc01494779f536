"""No page says the same section or the same sentence twice, as a merge of two versions of it would."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LONG = 80


def doubled(text: str) -> list[str]:
    """Headings of a section, and long lines, that stand there more than once."""
    lines = Counter(line for line in text.splitlines() if line.startswith("## ") or len(line) > LONG)
    return [line for line, count in lines.items() if count > 1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_says_nothing_twice(page: Path) -> None:
    assert not doubled(page.read_text("utf-8"))


def test_a_section_that_stands_there_twice_is_found() -> None:
    assert doubled("# Page\n## Speed\nfast\n## Speed\n") == ["## Speed"]
    assert doubled(f"{'a' * 81}\n\n{'a' * 81}\n") == ["a" * 81]
    assert not doubled("| a |\n|---|\n\n| b |\n|---|\n")
