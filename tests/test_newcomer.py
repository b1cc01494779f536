"""What a new person reads first is true: the questions of CONTRIBUTING, the folders, the glossary."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.architecture import MAY_IMPORT, imports, modules

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")

OLD_WORDS = ("whoever", "doorkeeper", "recollection", "recollections")
"""Words that the glossary has replaced and that have no other use here."""


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the one table under `heading`, without its head."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def paths_in(text: str) -> list[str]:
    """Every file and folder of ours that `text` names."""
    tops = "|".join((*MAY_IMPORT, "tests", "docs", "scripts", "research", "systemd", "packaging"))
    return re.findall(rf"`((?:{tops})/[\w./-]+)`", text)


def test_the_ten_questions_of_a_new_person_are_answered_with_files_that_are_there() -> None:
    questions = rows(CONTRIBUTING, "Find your way")
    assert len(questions) == 10
    for question, answer in questions:
        assert question.endswith("?")
        named = paths_in(answer)
        assert named, question
        for name in named:
            assert (ROOT / name).exists(), f"{question} {name}"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md"])
def test_every_file_that_these_pages_name_is_there(page: str) -> None:
    named = paths_in((ROOT / page).read_text("utf-8"))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_walks_name_files_that_are_there() -> None:
    walks = ARCHITECTURE[ARCHITECTURE.index("## The walk of an utterance") :]
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", walks)
    assert len(named) > 10
    for name in named:
        assert (ROOT / "device" / name).exists() or (ROOT / name).exists(), name


@pytest.mark.parametrize(
    "top", ["device", "sync", "sync/registry", "quantize", "quantize/evaluate", "quantize/train"]
)
def test_the_folders_and_their_imports_are_those_that_the_page_says(top: str) -> None:
    said: dict[str, set[str]] = {}
    for folders, _, others in rows(ARCHITECTURE, f"The folders of `{top}`, from the ground up"):
        names = re.findall(r"`(\w+)`", folders)
        allowed = set(said) if others == "all above" else set(re.findall(r"\w+", others))
        assert allowed <= set(said), f"{folders} imports what stands below it"
        said |= dict.fromkeys(names, allowed)
    there = {path.parent.name for path in (ROOT / top).glob("*/__init__.py")}
    assert set(said) == there
    known = modules(ROOT)
    at = top.count("/") + 1

    def folder(module: str) -> str:
        steps = module.split(".")
        return steps[at] if "/".join(steps[:at]) == top and len(steps) > at else ""

    for name, path in known.items():
        if folder(name) in said:
            for found in imports(name, path, known):
                other = folder(found.module)
                assert other not in said or other in {folder(name), *said[folder(name)]}, str(found)


def test_every_word_has_one_line_in_the_glossary() -> None:
    terms = [line.split("|")[1].strip() for line in GLOSSARY.splitlines() if line.startswith("| ")][1:]
    assert len(terms) > 50
    assert sorted(term for term in set(terms) if terms.count(term) > 1) == []


def test_words_that_the_glossary_replaced_do_not_come_back() -> None:
    old = re.compile(rf"(?<![a-z])({'|'.join(OLD_WORDS)})(?![a-z])", re.IGNORECASE)
    history = {ROOT / "docs" / "glossary.md", Path(__file__)}
    folders = (*MAY_IMPORT, "tests", "docs", "scripts", "research", "packaging", "systemd")
    pages = [path for folder in folders for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    for path in (*pages, ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        if path in history or path.suffix not in {"", ".py", ".md", ".toml", ".html", ".js", ".service"}:
            continue
        found = old.search(path.read_text("utf-8", errors="replace"))
        assert found is None, f"{path}: {found and found[0]}; docs/glossary.md has the word"


def test_the_rooms_and_tests_of_the_mutation_tester_are_there() -> None:
    mutmut = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]
    rooms = mutmut["rooms"].values()
    named = [*mutmut["also_copy"], *(name for room in rooms for name in (*room["code"], *room["tests"]))]
    assert len(rooms) >= 7
    assert [name for name in named if not list(ROOT.glob(name))] == []


def test_the_changelog_says_no_change_of_a_version_twice() -> None:
    for version in (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## "):
        changes = [line[:45] for line in version.splitlines() if line.startswith("- **")]
        assert sorted({change for change in changes if changes.count(change) > 1}) == []
