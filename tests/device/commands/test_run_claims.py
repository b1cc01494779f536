"""What a keyboard wedge types at `ostiary run`, and what a button does."""

from __future__ import annotations

import io
import os
import select

import pytest

from device.access.claims import Claim, ClaimKind
from device.access.rules import Rules, parse_rules
from device.commands import run

RULES = parse_rules("""
version = 1
[risks.r]
[zones.z]
[doors.d]
zone = "z"
risk = "r"
[[allow]]
roles = ["nurse"]
[people.ANNA]
roles = ["nurse"]
badges = ["111"]
""")


NOTHING = b""


def claims(
    monkeypatch: pytest.MonkeyPatch, *bursts: bytes, rest_s: float = 60.0, pause_s: float = 0.15
) -> tuple[list[Claim], int]:
    """The claims in these bursts, which are `pause_s` apart, and how often the door came to rest."""
    reading, writing = os.pipe()
    rests: list[None] = []
    coming, now_s = [*bursts], 0.0

    def wait() -> None:
        """Nobody is served, and the door waits for what the reader sends next."""
        nonlocal now_s
        if select.select([reading], [], [], 0)[0]:
            return
        now_s += pause_s
        if coming:
            os.write(writing, coming.pop(0))
        else:
            os.close(writing)

    with os.fdopen(reading, "rb") as stream:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stream))
        found = list(run.typed(lambda: RULES, lambda: rests.append(None), rest_s, wait, lambda: now_s))
    return found, len(rests)


ANNA, BUTTON = Claim(ClaimKind.BADGE, "ANNA"), Claim(ClaimKind.BUTTON)


@pytest.mark.parametrize(
    ("bursts", "expected"),
    [
        ((b"111\n",), [ANNA]),
        ((b"111\r\n",), [ANNA]),
        ((b"111\r",), [ANNA]),
        ((b"111\n\n",), [ANNA]),  # a reader that ends its line twice
        ((b"\x02111\r\n\x03",), [ANNA]),
        ((b"\n",), [BUTTON]),
        ((b"1", b"11\n"), [ANNA]),
        ((b"222\n",), [Claim(ClaimKind.BADGE, "222")]),
        ((b"\xff\xfe\x00\n",), [Claim(ClaimKind.UNREADABLE)]),
        ((), []),
    ],
)
def test_lines_are_badges_and_an_empty_one_is_somebody_without(
    monkeypatch: pytest.MonkeyPatch, bursts: tuple[bytes, ...], expected: list[Claim]
) -> None:
    assert claims(monkeypatch, *bursts)[0] == expected


def test_an_empty_line_after_a_badge_is_somebody_else_once_the_reader_has_ended_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert claims(monkeypatch, b"\n", b"111\n", b"\n", pause_s=1.0)[0] == [BUTTON, ANNA, BUTTON]


def test_the_door_asks_for_the_next_badge_when_nobody_has_come_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, rests = claims(monkeypatch, b"111\n", NOTHING, b"111\n", NOTHING, rest_s=0.1)
    assert found == [ANNA, ANNA]
    assert rests == 2


def test_noise_without_an_end_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = claims(monkeypatch, b"9" * 40_000, b"9" * 40_000, b"\n", b"111\n")
    assert found[-1] == ANNA
    assert all(len(claim.uid) <= 32 for claim in found)


def test_rules_adopted_meanwhile_name_the_owner_of_a_badge(monkeypatch: pytest.MonkeyPatch) -> None:
    present: list[Rules] = [RULES]
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stream))
        typed = run.typed(lambda: present[0], lambda: None, 60.0, lambda: None)
        os.write(writing, b"111\n")
        assert next(typed) == ANNA
        present[0] = parse_rules(
            'version = 2\n[risks.r]\n[zones.z]\n[doors.d]\nzone = "z"\nrisk = "r"\n'
            '[[allow]]\nroles = ["nurse"]\n[people.bruno]\nroles = ["nurse"]\nbadges = ["111"]\n'
        )
        os.write(writing, b"111\n")
        assert next(typed) == Claim(ClaimKind.BADGE, "BRUNO")
        os.close(writing)
