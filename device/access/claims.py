"""Who somebody says they are: a badge, a spoken name or number, or nothing at all.

A claim decides nothing. It says whose voiceprint is compared; without one, everybody who may pass is
searched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from device.access.badges import MAX_BADGE_CHARACTERS, BadgeError, Swipe, badge_number
from device.access.rules import Rules
from device.evidence.phrase import Tokens

MIN_SPOKEN_DIGITS = 3


class ClaimKind(StrEnum):
    """How a person was named."""

    BADGE = "badge"
    SPOKEN = "spoken"
    BUTTON = "button"
    """Somebody is there and showed no badge."""
    UNREADABLE = "unreadable"
    """A reader sent something that is no badge number."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`uid` is empty when nobody was named, or what was said could not be understood."""

    kind: ClaimKind
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Directory:
    """Badges and spoken names or numbers, each of one person."""

    by_badge: Mapping[str, str]
    by_spoken: Mapping[Tokens, str]

    @property
    def spoken_words(self) -> frozenset[str]:
        """Every word of a spoken name or number: what a transcript of a claim may hold besides digits."""
        return frozenset(word for said in self.by_spoken for word in said)

    @classmethod
    def of(cls, rules: Rules, normalise: Callable[[str], Tokens]) -> Directory:
        """From the rules' people. `normalise` makes "forty-five" and "4 5" the same tokens."""
        people = rules.people.values()
        # A uid is claimed by its own number, however it is written, unless the number is a badge.
        by_badge = {number: person.uid for person in people if (number := _number(person.uid))}
        by_badge |= {
            number: person.uid for person in people for badge in person.badges if (number := _number(badge))
        }
        return cls(by_badge, {normalise(person.spoken): person.uid for person in people if person.spoken})

    def badge(self, number: str) -> Claim:
        """The claim of a badge's canonical number; without an owner in the rules it is the uid itself."""
        return Claim(ClaimKind.BADGE, self.by_badge.get(number, number))

    def swipe(self, swipe: Swipe) -> Claim:
        """The claim in what a reader sent."""
        if swipe.is_button:
            return Claim(ClaimKind.BUTTON)
        return self.badge(swipe.number) if swipe.number else Claim(ClaimKind.UNREADABLE)

    def spoken(self, tokens: Tokens) -> Claim:
        """The claim in a transcript's canonical tokens: the longest name or number in it, if only one
        person has it. A number that the rules do not name claims the uid of its digits, like a badge: the
        door does not tell which numbers there are."""
        found = {said: uid for said, uid in self.by_spoken.items() if said and _contains(tokens, said)}
        # "4 5" inside "4 5 1 2" is part of a longer number, not a second person.
        whole = {
            uid for said, uid in found.items() if not any(said != o and _contains(o, said) for o in found)
        }
        if not whole and len(tokens) >= MIN_SPOKEN_DIGITS and all(token.isdigit() for token in tokens):
            return Claim(ClaimKind.SPOKEN, "".join(tokens)[:MAX_BADGE_CHARACTERS])
        return Claim(ClaimKind.SPOKEN, whole.pop() if len(whole) == 1 else "")


def _number(text: str) -> str:
    """The canonical form; empty for a uid that no reader can send."""
    try:
        return badge_number(text)
    except BadgeError:
        return ""


def _contains(tokens: Tokens, said: Tokens) -> bool:
    return any(tokens[at : at + len(said)] == said for at in range(len(tokens) - len(said) + 1))
