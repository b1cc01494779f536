"""What `scripts/without-vnni` changes in a library, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

from bench.processors.without_vnni import ANSWER, XGETBV, answered, main

ASKED = b"\x90" * 20 + b"\x31\xc9" + XGETBV + b"\xf7\xd0\xa8\xe6" + b"\x90" * 20
"""xor %ecx, %ecx; xgetbv; not %eax; test $0xe6, %al."""


def test_each_question_is_answered_in_its_place() -> None:
    code, found = answered(ASKED + ASKED)
    assert (found, len(code)) == (2, 2 * len(ASKED))
    assert code == (ASKED + ASKED).replace(XGETBV, ANSWER)


def test_the_same_bytes_inside_something_else_stay() -> None:
    other = b"\x90" * 20 + XGETBV + b"\xf7\xd0" + b"\x90" * 20
    assert answered(other) == (other, 0)


def test_an_environment_without_questions_is_an_error_and_links_are_left_alone(tmp_path: Path) -> None:
    packages = tmp_path / "copy" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    original = tmp_path / "original.so"
    original.write_bytes(ASKED)
    (packages / "linked.so").symlink_to(original)
    assert main(tmp_path / "copy") == 1
    (packages / "own.so.1").write_bytes(ASKED)
    assert main(tmp_path / "copy") == 0
    assert (packages / "own.so.1").read_bytes() == answered(ASKED)[0]
    assert original.read_bytes() == ASKED
