"""No page says a section or sentence twice, as a merge of two versions would; every link leads somewhere."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINKING = sorted(
    {*PAGES, *(page for top in ("bench", "quantize", "research") for page in (ROOT / top).rglob("*.md"))}
)
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


@cache
def anchors(page: Path) -> frozenset[str]:
    """What a link may name behind `#`: the headings, as GitHub writes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text("utf-8"))
    shown = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower()) for heading in headings)
    return frozenset(re.sub(r"[^\w\- ]", "", one).replace(" ", "-") for one in shown)


def astray(page: Path, text: str) -> list[str]:
    """Links of `text`, which stands at `page`, that lead to no file or to no heading of a page."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        to = page.parent / path if path else page
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert astray(page, page.read_text("utf-8")) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    here = ROOT / "README.md"
    assert astray(here, "[a](docs/no.md) [b](docs/evaluation.md#nothing) [c](https://x.test/y#z)") == [
        "docs/no.md", "docs/evaluation.md#nothing",
    ]  # fmt: skip
    assert not astray(here, "[a](docs/evaluation.md#the-manifest) ![b](docs/images/demo.svg)")
