"""One-time phrases: what they are bound to and when they are refused."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import cbor2
import pytest

from device.access.challenge import (
    OFFERED,
    Binding,
    Challenge,
    ChallengeBook,
    ChallengeError,
    ChallengeSettings,
    Style,
    code_sentence,
    pieces_to_paste,
)
from device.access.decision import Notice, Outcome, Reason, RefusalError
from device.clock import Now
from device.evidence.vocabulary import DIGITS, NATO, Language
from device.evidence.wordlists import challenge_words, duress_words, seldom_words
from device.evidence.wordlists.sentences import CARRIERS
from device.evidence.wordlists.sentences import DIGITS as SAID_DIGITS

SECRET = b"a secret of this test"
BINDING = Binding("unit-1", "pharmacy", "uid-7", "1234", "two boxes of morphine")
WORDS = ChallengeSettings()


def mac(purpose: str, message: bytes) -> bytes:
    return hmac.digest(SECRET, purpose.encode() + b"\0" + message, hashlib.sha256)


class Memory:
    """Remembers for ever; the durable one has its own tests."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []

    def shown_before(self, digest: bytes) -> bool:
        return digest in self.digests

    def remember(self, digest: bytes) -> None:
        self.digests.append(digest)


def now(after_s: float = 0.0) -> Now:
    return Now(datetime(2026, 11, 22, 8, 0, tzinfo=UTC) + timedelta(seconds=after_s), 100.0 + after_s)


def book(epoch: int = 1, memory: Memory | None = None, unit: str = "unit-1") -> ChallengeBook:
    return ChallengeBook(unit, epoch, mac, memory or Memory())


def refusal(error: pytest.ExceptionInfo[RefusalError]) -> tuple[Outcome, Reason]:
    return error.value.decision.outcome, error.value.decision.code


def redeem(open_book: ChallengeBook, challenge, *, door="pharmacy", person="uid-7", began_s=105.0):
    return open_book.redeem(challenge, door=door, person=person, speech_began_s=began_s)


def test_a_challenge_is_accepted_once_and_never_again():
    unit = book()
    challenge = unit.issue(BINDING, WORDS, now())
    assert redeem(unit, challenge) is challenge
    with pytest.raises(RefusalError) as error:
        redeem(unit, challenge)
    assert refusal(error) == (Outcome.DENIED_REPLAY, Reason.CHALLENGE_USED)


def test_a_challenge_shown_before_a_restart_is_refused_after_it():
    challenge = book(epoch=1).issue(BINDING, WORDS, now())
    restarted = book(epoch=2)
    restarted.issue(BINDING, WORDS, now())
    with pytest.raises(RefusalError) as error:
        redeem(restarted, challenge)
    assert refusal(error) == (Outcome.DENIED_REPLAY, Reason.CHALLENGE_BEFORE_RESTART)


def test_setting_the_wall_clock_back_revives_nothing():
    unit = book()
    challenge = unit.issue(BINDING, WORDS, now())
    unit.issue(BINDING, WORDS, Now(datetime(2020, 1, 1, tzinfo=UTC), 500.0))
    with pytest.raises(RefusalError) as error:
        redeem(unit, challenge, began_s=500.0)
    assert error.value.decision.outcome in {Outcome.DENIED_EXPIRED, Outcome.DENIED_REPLAY}


@pytest.mark.parametrize(
    ("door", "person", "code"),
    [
        ("ward", "uid-7", Reason.CHALLENGE_OTHER_DOOR),
        ("pharmacy", "uid-8", Reason.CHALLENGE_OTHER_PERSON),
        ("pharmacy", "", Reason.CHALLENGE_OTHER_PERSON),
    ],
)
def test_a_challenge_is_good_only_at_its_door_and_for_its_person(door, person, code):
    unit = book()
    challenge = unit.issue(BINDING, WORDS, now())
    with pytest.raises(RefusalError) as error:
        redeem(unit, challenge, door=door, person=person)
    assert refusal(error) == (Outcome.DENIED_REPLAY, code)
    with pytest.raises(RefusalError) as error:
        redeem(unit, challenge)
    assert refusal(error) == (Outcome.DENIED_REPLAY, Reason.CHALLENGE_USED)


@pytest.mark.parametrize(
    ("began_s", "accepted"), [(100.0, True), (120.0, True), (120.1, False), (99.9, False)]
)
def test_speech_must_begin_between_the_display_and_the_deadline(began_s, accepted):
    unit = book()
    challenge = unit.issue(BINDING, WORDS, now())
    if accepted:
        assert redeem(unit, challenge, began_s=began_s)
        return
    with pytest.raises(RefusalError) as error:
        redeem(unit, challenge, began_s=began_s)
    assert refusal(error) == (Outcome.DENIED_EXPIRED, Reason.CHALLENGE_EXPIRED)


def test_a_start_of_speech_that_is_not_a_number_is_refused():
    unit = book()
    challenge = unit.issue(BINDING, WORDS, now())
    with pytest.raises(RefusalError):
        redeem(unit, challenge, began_s=float("nan"))


@pytest.mark.parametrize(
    "forge",
    [
        lambda c: replace(c, phrase="open the door please"),
        lambda c: replace(c, binding=replace(c.binding, door="ward")),
        lambda c: replace(c, binding=replace(c.binding, transaction_text="nine boxes of morphine")),
        lambda c: replace(c, binding=replace(c.binding, unit="unit-2")),
        lambda c: replace(c, binding=replace(c.binding, person="uid-8")),
        lambda c: replace(c, binding=replace(c.binding, transaction="1235")),
        lambda c: replace(c, style=Style.DIGITS),
        lambda c: replace(c, display="open the door please"),
        lambda c: replace(c, nonce=bytes(len(c.nonce))),
        lambda c: replace(c, issued_s=c.issued_s + 1.0),
        lambda c: replace(c, lifetime_s=1e9),
        lambda c: replace(c, epoch=2),
        lambda c: replace(c, sequence=c.sequence + 1),
        lambda c: replace(c, tag=b""),
        lambda c: replace(c, issued_at="2030-01-01T00:00:00+00:00"),
    ],
)
def test_a_challenge_with_one_field_changed_is_called_forged(forge):
    unit = book()
    challenge = unit.issue(BINDING, WORDS, now())
    with pytest.raises(RefusalError) as error:
        redeem(unit, forge(challenge))
    assert refusal(error) == (Outcome.DENIED_REPLAY, Reason.CHALLENGE_FORGED)
    assert redeem(unit, challenge)


def test_a_second_unit_refuses_a_challenge_of_the_first():
    challenge = book().issue(BINDING, WORDS, now())
    other = ChallengeBook("unit-2", 1, lambda p, m: mac(p, b"other" + m), Memory())
    with pytest.raises(RefusalError) as error:
        redeem(other, challenge)
    assert refusal(error) == (Outcome.DENIED_REPLAY, Reason.CHALLENGE_FORGED)
    with pytest.raises(ChallengeError):
        other.issue(BINDING, WORDS, now())


def test_withdrawing_a_door_closes_its_challenge_and_no_other():
    unit = book()
    here = unit.issue(BINDING, WORDS, now())
    there = unit.issue(replace(BINDING, door="ward"), WORDS, now())
    unit.withdraw("pharmacy")
    with pytest.raises(RefusalError):
        redeem(unit, here)
    assert redeem(unit, there, door="ward")


def test_the_code_style_is_the_sentence_of_the_original_system_with_four_characters_of_the_hash():
    challenge = book().issue(BINDING, ChallengeSettings(Style.CODE), now())
    words = challenge.display.split()
    assert words[:-1] == ["I", "approve", "the", "transaction", "1234", "with", "the", "code"]
    assert len(challenge.code) == 4
    assert challenge.code == words[-1]
    assert set(challenge.code) <= set("0123456789ABCDEF")


def test_a_code_is_judged_as_people_read_it_out_and_shown_as_it_is_written():
    judged, shown = code_sentence("1234", "1D3A")
    assert shown == "I approve the transaction 1234 with the code 1D3A"
    assert judged == "I approve the transaction 1 2 3 4 with the code 1 D 3 A"


@pytest.mark.parametrize(
    ("transaction", "said"),
    [
        ("1234", "1234"),
        ("A1b2C3d4", "A1b2C3d4"),
        ("order-2026-11-0042", "0042"),
        ("10.0001", "0001"),
        ("###", "0001"),
    ],
)
def test_a_long_or_odd_transaction_id_is_said_by_its_end(transaction, said):
    challenge = book().issue(replace(BINDING, transaction=transaction), ChallengeSettings(Style.CODE), now())
    assert challenge.display.startswith(f"I approve the transaction {said} with the code ")
    assert challenge.binding.transaction == transaction


def test_the_code_depends_on_the_transaction_its_text_and_the_time():
    def code(binding: Binding, at: Now) -> str:
        fixed = ChallengeBook("unit-1", 1, mac, Memory(), nonces=lambda size: b"n" * size)
        return fixed.issue(binding, ChallengeSettings(Style.CODE), at).code

    first = code(BINDING, now())
    assert code(BINDING, now()) == first
    others = {
        code(replace(BINDING, transaction_text="two boxes of aspirin"), now()),
        code(replace(BINDING, transaction="1235"), now()),
        code(BINDING, now(1.0)),
    }
    assert first not in others
    assert len(others) == 3


def test_digits_never_stand_twice_in_a_row():
    unit = book()
    for _ in range(300):
        digits = unit.issue(BINDING, ChallengeSettings(Style.DIGITS), now()).display.split()
        assert len(digits) == 6
        assert all(left != right for left, right in itertools.pairwise(digits))
        assert len(set(digits)) < 6, "one of them twice: pasting it takes two recordings"


def test_words_are_drawn_from_the_vocabulary_without_repeats_and_evenly():
    unit = book()
    drawn = [unit.issue(BINDING, WORDS, now()).phrase.split() for _ in range(2_000)]
    assert all(len(set(words)) == 5 and set(words) <= set(challenge_words()) for words in drawn)
    counts = {word: sum(word in words for words in drawn) for word in challenge_words()}
    often = [counts.pop(word) for word in seldom_words()]
    assert min(often) >= 55  # 94 expected, standard deviation 9
    assert max(often) <= 133
    assert min(counts.values()) >= 3  # 21 expected, standard deviation 5
    assert max(counts.values()) <= 45


@pytest.mark.parametrize(("count", "seldom"), [(3, 2), (4, 3), (5, 3), (10, 6)])
def test_three_of_five_words_are_such_as_people_seldom_say_at_any_place(count: int, seldom: int) -> None:
    unit = book()
    drawn = [unit.issue(BINDING, ChallengeSettings(words=count), now()).phrase.split() for _ in range(600)]
    assert {sum(word in seldom_words() for word in words) for words in drawn} == {seldom}
    for place in range(count):
        assert 0.3 < sum(words[place] in seldom_words() for words in drawn) / 600 < 0.85


def test_sentences_ask_for_three_words_that_people_seldom_say():
    unit = book()
    for _ in range(50):
        words = unit.issue(BINDING, ChallengeSettings(Style.SENTENCE), now()).phrase.split()
        assert sum(word in seldom_words() for word in words) == 3


def test_sentences_come_in_every_carrier_with_four_different_words():
    unit = book()
    phrases = [unit.issue(BINDING, ChallengeSettings(Style.SENTENCE), now()).phrase for _ in range(800)]
    patterns = [re.compile(carrier.replace("{}", "([a-z]+)")) for carrier in CARRIERS]
    heard = [[found.groups() for one in patterns if (found := one.fullmatch(phrase))] for phrase in phrases]
    assert all(len(found) == 1 for found in heard), "each is of exactly one carrier"
    assert all(len(set(found[0])) == 4 and set(found[0]) <= set(challenge_words()) for found in heard)
    counts = [sum(one.fullmatch(phrase) is not None for phrase in phrases) for one in patterns]
    assert min(counts) >= 20  # 50 expected
    assert len(set(CARRIERS)) == 16
    assert not {word.lower() for carrier in CARRIERS for word in carrier.split()} & {*duress_words(), *DIGITS}


def test_no_phrase_is_shown_twice_within_the_horizon():
    memory = Memory()
    settings = ChallengeSettings(Style.DIGITS, digits=4)
    shown = [book(epoch, memory).issue(BINDING, settings, now()).phrase for epoch in range(1, 1_500)]
    assert len(set(shown)) == len(shown)


def test_a_style_whose_phrases_are_all_used_up_refuses_to_repeat_one():
    class Full(Memory):
        def shown_before(self, digest: bytes) -> bool:
            return True

    with pytest.raises(ChallengeError):
        book(memory=Full()).issue(BINDING, WORDS, now())


def test_no_phrase_holds_a_duress_word_a_digit_or_a_spelled_letter():
    assert len(duress_words()) == 16
    assert not set(duress_words()) & set(challenge_words())
    assert not {*DIGITS, *NATO} & {*challenge_words(), *duress_words()}


def test_a_guess_must_get_as_many_bits_right_as_the_documentation_states():
    phrases = {style: book().issue(BINDING, ChallengeSettings(style), now()).phrase for style in Style}
    rare, slots = len(seldom_words()), CARRIERS[0].count("{}")
    others = len(challenge_words()) - rare
    five, four = (
        math.comb(rare, 3) * math.comb(others, count - 3) * math.factorial(count)
        for count in (len(phrases[Style.WORDS].split()), slots)
    )
    assert math.log2(five) == pytest.approx(36.4, abs=0.05)
    assert math.log2(len(CARRIERS) * four) == pytest.approx(31.5, abs=0.05)
    digits = len(phrases[Style.DIGITS].split())
    assert math.log2(10 * 9 ** (digits - 1) - math.perm(10, digits)) == pytest.approx(18.7, abs=0.05)
    code = book().issue(BINDING, ChallengeSettings(Style.CODE), now()).code
    assert math.log2(16 ** len(code)) == 16.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"words": 2},
        {"words": 11},
        {"digits": 3},
        {"digits": 13},
        {"lifetime_s": 1.9},
        {"lifetime_s": 120.1},
        {"lifetime_s": float("nan")},
    ],
)
def test_settings_outside_their_limits_are_refused(wrong):
    with pytest.raises(ValueError):
        ChallengeSettings(**wrong)


def test_ten_thousand_displays_leave_only_a_bounded_number_open():
    unit = book()
    every = [
        unit.issue(replace(BINDING, door=f"door-{step}"), WORDS, now(step * 0.0001)) for step in range(2_000)
    ]
    open_still = 0
    for challenge in every:
        with contextlib.suppress(RefusalError):
            redeem(unit, challenge, door=challenge.binding.door)
            open_still += 1
    assert 2 <= open_still <= 256


def test_a_challenge_that_nobody_can_redeem_any_more_is_forgotten_a_minute_after_its_end():
    unit = book()
    late, kept = (unit.issue(replace(BINDING, door=door), WORDS, now()) for door in ("door-1", "door-2"))
    unit.issue(replace(BINDING, door="door-3"), WORDS, now(WORDS.lifetime_s + 60.0))
    assert redeem(unit, kept, door="door-2").challenge_id == kept.challenge_id
    unit.issue(replace(BINDING, door="door-3"), WORDS, now(WORDS.lifetime_s + 60.1))
    with pytest.raises(RefusalError) as error:
        redeem(unit, late, door="door-1")
    assert refusal(error) == (Outcome.DENIED_REPLAY, Reason.CHALLENGE_USED)


def test_a_phrase_of_the_callers_own_is_judged_and_shown_as_given():
    unit = book()
    challenge = unit.issue(BINDING, WORDS, now(), own_phrase="open the blue cupboard")
    assert (challenge.phrase, challenge.display) == ("open the blue cupboard",) * 2
    assert redeem(unit, challenge) == challenge


def drawn_by_hand(challenge: Challenge, settings: ChallengeSettings) -> str:
    """The phrase of a challenge, worked out from what the module's docstrings say of the draw."""
    b = challenge.binding
    blank = [
        b.unit, b.door, b.person, b.transaction, b.transaction_text, str(settings.style), "", "",
        challenge.epoch, challenge.sequence, challenge.nonce, challenge.issued_at, challenge.issued_s,
        challenge.lifetime_s,
    ]  # fmt: skip
    seed = mac("challenge", cbor2.dumps(blank, canonical=True))
    if settings.style is Style.CODE:
        return code_sentence(b.transaction, seed.hex().upper()[-4:])[0]
    blocks = (mac("challenge-numbers", seed + count.to_bytes(4, "big")) for count in itertools.count())
    numbers = (high << 8 | low for block in blocks for high, low in zip(block[::2], block[1::2], strict=True))

    def below(bound: int) -> int:
        return next(number for number in numbers if number < 65_536 // bound * bound) % bound

    def some(count: int, words: Sequence[str]) -> list[str]:
        chosen: list[str] = []
        while len(chosen) < count:
            word = words[below(len(words))]
            chosen += [word] if word not in chosen else []
        return chosen

    def distinct(count: int) -> list[str]:
        rare = {3: 2, 4: 3, 5: 3, 10: 6}[count]
        others = [word for word in challenge_words() if word not in seldom_words()]
        return some(count, [*some(rare, seldom_words()), *some(count - rare, others)])

    if settings.style is Style.WORDS:
        return " ".join(distinct(settings.words))
    if settings.style is Style.SENTENCE:
        carrier = CARRIERS[below(len(CARRIERS))]
        return carrier.format(*distinct(4))
    digits: list[int] = []
    while len(digits) < settings.digits:
        digit = below(10)
        digits += [digit] if digits[-1:] != [digit] else []
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    return " ".join(names[digit] for digit in digits)


@pytest.mark.parametrize("style", list(Style))
def test_every_phrase_is_the_one_that_the_units_secret_and_the_challenge_determine(style):
    """Uniform numbers of a keyed hash: a change in how they are drawn may favour some phrases, unseen."""
    settings = ChallengeSettings(style, words=10, digits=12)
    unit = ChallengeBook("unit-1", 3, mac, Memory(), nonces=lambda size: bytes(range(size)))
    for second in range(40):
        challenge = unit.issue(BINDING, settings, now(second))
        assert challenge.phrase == drawn_by_hand(challenge, settings)


def test_what_was_shown_is_remembered_under_the_units_secret_and_looked_up_once_for_a_callers_phrase():
    class Asked(Memory):
        times = 0

        def shown_before(self, digest: bytes) -> bool:
            self.times += 1
            return super().shown_before(digest)

    memory = Asked()
    unit = book(memory=memory)
    challenge = unit.issue(BINDING, WORDS, now())
    assert memory.digests == [mac("phrase-memory", challenge.phrase.encode())[:8]]
    memory.times = 0
    with pytest.raises(ChallengeError, match="take another"):
        unit.issue(BINDING, WORDS, now(), own_phrase=challenge.phrase)
    assert memory.times == 1


def test_a_denial_says_why_for_the_log():
    unit = book()
    late = unit.issue(BINDING, WORDS, now())
    with pytest.raises(RefusalError) as error:
        redeem(unit, late, began_s=130.0)
    assert error.value.decision.notice is Notice.TOO_LATE
    assert error.value.decision.reason == "speech began 30 s after the phrase was shown; 20 s allowed"
    for wrong in (late, replace(late, phrase="another"), replace(late, epoch=9)):
        with pytest.raises(RefusalError) as error:
            redeem(unit, wrong)
        assert "challenge" in error.value.decision.reason


def test_a_code_without_a_transaction_shows_the_last_four_digits_of_its_number():
    class Forgets(Memory):
        def remember(self, digest: bytes) -> None:
            pass

    unit = book(memory=Forgets())
    bare = replace(BINDING, transaction="")
    code = ChallengeSettings(Style.CODE)
    shown = [unit.issue(bare, code, now(0.001 * step)).display for step in range(10_001)]
    assert [shown[at].split()[4] for at in (0, 41, 9_998, 9_999, 10_000)] == [
        "0001", "0042", "9999", "0000", "0001",
    ]  # fmt: skip


def test_what_somebody_must_have_recorded_to_paste_every_second_challenge():
    found = {style: pieces_to_paste(ChallengeSettings(style)) for style in Style}
    assert found == {Style.WORDS: 200, Style.SENTENCE: 160, Style.DIGITS: 9, Style.CODE: 14}


def test_digits_are_shown_apart_and_the_least_and_the_most_of_words_and_digits_are_allowed():
    for digits in (4, 12):
        challenge = book().issue(BINDING, ChallengeSettings(Style.DIGITS, digits=digits), now())
        assert re.fullmatch(rf"\d( \d){{{digits - 1}}}", challenge.display)
    for words in (3, 10):
        assert len(book().issue(BINDING, ChallengeSettings(words=words), now()).phrase.split()) == words


def test_the_time_for_an_answer_begins_when_the_phrase_is_shown():
    """A TPM that answers after half a minute took all of it, before anybody could read a word."""
    unit = book()
    challenge = unit.issue(BINDING, WORDS, now())
    unit.shown(challenge, now(25.0))
    unit.shown(challenge, now(60.0))
    assert redeem(unit, challenge, began_s=125.0 + WORDS.lifetime_s) is challenge, "and only once"
    late = unit.issue(BINDING, WORDS, now())
    unit.shown(late, now(25.0))
    with pytest.raises(RefusalError) as error:
        redeem(unit, late, began_s=125.1 + WORDS.lifetime_s)
    assert refusal(error) == (Outcome.DENIED_EXPIRED, Reason.CHALLENGE_EXPIRED)
    unit.shown(late, now(30.0))
    with pytest.raises(RefusalError) as error:
        redeem(unit, late, began_s=131.0)
    assert refusal(error)[1] is Reason.CHALLENGE_USED, "showing it again opens nothing"


@pytest.mark.parametrize("style", OFFERED)
def test_a_german_challenge_is_drawn_from_german_words_and_bound_to_its_language(style: Style):
    unit = book()
    challenge = unit.issue(BINDING, ChallengeSettings(style), now(), language=Language.GERMAN)
    listed = {*challenge_words(Language.GERMAN)} if style is Style.WORDS else {*SAID_DIGITS[Language.GERMAN]}
    assert challenge.language is Language.GERMAN
    assert {*challenge.phrase.split()} <= listed
    if style is Style.WORDS:
        assert len({*challenge.phrase.split()} & {*seldom_words(Language.GERMAN)}) == 3
    with pytest.raises(RefusalError) as refused:
        redeem(unit, replace(challenge, language=Language.ENGLISH))
    assert refusal(refused)[1] is Reason.CHALLENGE_FORGED
    assert redeem(unit, challenge) is challenge


@pytest.mark.parametrize("style", [style for style in Style if style not in OFFERED])
def test_a_style_that_german_lacks_is_never_drawn(style: Style):
    with pytest.raises(ChallengeError, match="English only; German has `words` and `digits`"):
        book().issue(BINDING, ChallengeSettings(style), now(), language=Language.GERMAN)
    assert book().issue(BINDING, ChallengeSettings(style), now()).language is Language.ENGLISH
