"""Thousands of invented histories of one unit: no challenge twice, no limit exceeded, no door without every
factor.

The machine keeps its own, simpler book of what it saw, and holds the unit to it. The unit runs in a
process of its own that is killed with SIGKILL, at chosen points of its writes (`unit_process.At`) and at
moments that nobody chose. What a power cut takes beyond a kill, pages not yet synced, is not reproduced: the
product syncs file and directory before a change counts. `OSTIARY_HISTORIES` sets how many histories the long
run invents; it prints what they held.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from device.access.challenge import Challenge
from device.access.decision import Decision, Factor, Finding, Outcome
from device.access.memory.history import HistoryRollbackError, opened_file
from device.access.passage import duress_digest
from device.access.rules import parse_rules
from device.access.rules.explain import explain
from device.evidence.gallery import Identification
from device.evidence.judge import Evidence, JudgeError
from device.evidence.wordlists import duress_words
from device.unit.audit import AuditTrail, EventContext
from sync.outbox import Outbox
from tests.device.door_world import evidence, mac
from tests.device.unit_process import At, KilledError, UnitProcess

DURESS_WORD = duress_words()[0]
HISTORIES = int(os.environ.get("OSTIARY_HISTORIES", "300"))
HISTORIES_A_ROUND = 250
"""Hypothesis remembers every history of a round so as not to draw it twice, and slows down as they add up."""
MEMORY = Path("/dev/shm")  # histories are about order, not about the speed of this machine's disk

RULES = parse_rules(f"""
version = 1
[risks.standard]
attempts = {{ free_failures = 3, first_wait_s = 30, longest_wait_s = 120, disable_after = 6 }}
thresholds = {{ step_up_margin_llr = 1.0 }}
[risks.unclaimed]
factors = ["phrase", "voice", "live"]
attempts = {{ free_failures = 3, first_wait_s = 30, longest_wait_s = 120, disable_after = 6 }}
[zones.ward]
[zones.pharmacy]
[doors.ward]
zone = "ward"
risk = "standard"
[doors.gate]
zone = "ward"
risk = "unclaimed"
[doors.pharmacy]
zone = "pharmacy"
risk = "standard"
two_persons_within_s = 40
[doors.airlock]
zone = "pharmacy"
risk = "standard"
anti_passback_s = 60
[[allow]]
roles = ["nurse"]
[people.anna]
roles = ["nurse"]
duress = "{duress_digest(mac, "ANNA", DURESS_WORD).hex()}"
[people.bruno]
roles = ["nurse"]
""")
CONTEXT = EventContext(1, 0.0, b"k" * 32, "software")
DOORS = st.sampled_from(sorted(RULES.doors))
PEOPLE = st.sampled_from(["ANNA", "ANNA", "BRUNO", "BRUNO", "badge-1", ""])
SCORES = st.sampled_from([-8.0, 2.5, 6.0, 6.0, 6.0, 6.0])
PAUSES = st.sampled_from([0.0, 0.0, 1.0, 19.0, 31.0, 61.0, 121.0])
SAID = st.sampled_from(["", DURESS_WORD, f"PHRASE {DURESS_WORD}"])
"""What else was heard; PHRASE stands for the phrase that was shown."""
FOUND = st.none() | st.builds(
    Identification,
    st.sampled_from(["ANNA", "BRUNO", "nobody"]),
    st.sampled_from([2.0, 6.0, 9.0, float("nan")]),
    st.sampled_from([-5.0, 8.0]),
    st.just(40),
)
HEARD = st.one_of(
    st.just(evidence()),
    st.just(evidence(voice=-8.0)),
    st.just(evidence(phrase=-8.0, transcript=f"PHRASE {DURESS_WORD}")),
    st.builds(evidence, SCORES, SCORES, SCORES, SAID),
    st.builds(evidence, SCORES, SCORES, SCORES, SAID),
    st.sampled_from([evidence(phrase=1.25), evidence(phrase=1.25), evidence(phrase=1.25, voice=2.5)]),
    st.sampled_from([evidence(voice=None), evidence(live=float("nan")), JudgeError("a model is gone")]),
)
Draw = Callable[[Any], Any]
JUDGED = {
    Outcome.DENIED_PHRASE,
    Outcome.DENIED_VOICE,
    Outcome.DENIED_SPOOF,
    Outcome.DENIED_UNKNOWN,
    Outcome.STEP_UP,
}
TALLY: Counter[str] = Counter()


@dataclass
class Seen:
    """The machine's own account of one claim."""

    failures: int = 0
    last_s: float = 0.0


class UnitHistory(RuleBasedStateMachine):
    """Two people, four doors, clocks, kills and somebody who swaps the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.world = UnitProcess(self.folder, RULES)
        TALLY["histories"] += 1
        self.shown: list[Challenge] = []
        self.open: dict[str, Challenge] = {}
        self.answered: set[str] = set()
        self.phrases: list[str] = []
        self.book: dict[str, Seen] = {}
        self.started_s = self.world.monotonic_s
        self.copies: list[bytes] = []
        self.first_of_two: tuple[str, float] | None = None
        self.weak_words: dict[tuple[str, str], tuple[float, float]] = {}
        """By door and person: what a phrase with weak words was worth, and until when."""
        self.some_time = False
        """Whether the next request dies at a moment that nobody chose."""
        self.ended = False

    def teardown(self) -> None:
        self.world.stop()
        shutil.rmtree(self.folder)

    # --- what people do ---

    @rule(door=DOORS, uid=PEOPLE, tries=st.lists(st.tuples(HEARD, PAUSES), min_size=1, max_size=8))
    def come_and_try(self, door: str, uid: str, tries: list[tuple[Evidence, float]]) -> None:
        """One person, several tries, with pauses as long as they like."""
        self.try_often(door, uid, tries)

    def try_often(self, door: str, uid: str, tries: list[tuple[Evidence, float]]) -> None:
        if self.ended:
            return
        for heard, pause_s in tries:
            if (challenge := self.step_up_to(door, uid)) is not None:
                self.world.later(2.0)
                self.answer(challenge, heard, door, uid)
            self.world.later(pause_s)

    @rule(door=DOORS, uid=PEOPLE, times=st.integers(2, 9), heard=HEARD, pause_s=PAUSES)
    def try_the_same_again_and_again(
        self, door: str, uid: str, times: int, heard: Evidence, pause_s: float
    ) -> None:
        """Somebody who does not give up."""
        self.try_often(door, uid, [(heard, pause_s)] * times)

    @rule(door=DOORS, uid=PEOPLE, pause_s=PAUSES, after=HEARD)
    def mumble_and_try_once_more(self, door: str, uid: str, pause_s: float, after: Evidence) -> None:
        """Weak words, then whatever comes, at once or later: only weak words of a moment ago count."""
        self.try_often(door, uid, [(evidence(phrase=1.25), pause_s), (after, 0.0)])
        self.try_often(door, uid, [(evidence(phrase=1.25), pause_s), (evidence(phrase=1.25), 0.0)])

    @rule(first=PEOPLE, second=PEOPLE, pause_s=PAUSES)
    def come_as_two(self, first: str, second: str, pause_s: float) -> None:
        """The door for two: no matter who they are, and whether the second comes in time or not."""
        self.try_often("pharmacy", first, [(evidence(), pause_s)])
        self.try_often("pharmacy", second, [(evidence(), 0.0)])

    @rule(door=DOORS, uid=PEOPLE)
    def look_at_the_phrase(self, door: str, uid: str) -> None:
        if not self.ended:
            self.step_up_to(door, uid)

    def step_up_to(self, door: str, uid: str) -> Challenge | None:
        try:
            greeting = self.world.greet(uid, door)
        except KilledError:
            self.it_was_killed()
            return None
        if isinstance(greeting, Decision):
            TALLY[f"greeted with {greeting.outcome}"] += 1
            assert not greeting.opens
            return None
        assert greeting.phrase not in self.phrases[-60:], "a phrase was shown again within the horizon"
        TALLY["challenges shown"] += 1
        self.phrases.append(greeting.phrase)
        self.shown.append(greeting)
        self.open[door] = greeting
        return greeting

    @rule(
        found=FOUND,
        heard=st.one_of(st.just(evidence(voice=None)), st.builds(evidence, SCORES, st.none(), SCORES, SAID)),
        times=st.integers(1, 4),
    )
    def come_without_a_claim(self, found: Identification | None, heard: Evidence, times: int) -> None:
        """The door that recognises people by themselves."""
        heard = replace(heard, identified=found, speaker_llr=None if found is None else found.llr)
        self.try_often("gate", "", [(heard, 0.0)] * times)

    @precondition(lambda self: self.shown and not self.ended)
    @rule(data=st.data(), heard=HEARD, door=st.none() | DOORS, uid=st.none() | PEOPLE)
    def answer_some_challenge(
        self, data: st.DataObject, heard: Evidence, door: str | None, uid: str | None
    ) -> None:
        challenge = data.draw(st.sampled_from(self.shown[-3:]))
        self.answer(
            challenge, heard, door or challenge.binding.door, challenge.binding.person if uid is None else uid
        )

    @precondition(lambda self: self.open and not self.ended)
    @rule(data=st.data(), heard=HEARD)
    def answer_what_is_shown(self, data: st.DataObject, heard: Evidence) -> None:
        door = data.draw(st.sampled_from(sorted(self.open)))
        self.answer(self.open[door], heard, door, self.open[door].binding.person)

    def answer(self, challenge: Challenge, heard: Evidence, door: str, uid: str) -> None:
        world, now_s = self.world, self.world.monotonic_s
        subject = f"person:{uid}" if uid in RULES.people else f"door:{door}"
        seen = self.book.setdefault(subject, Seen())
        if isinstance(heard, Evidence):
            heard = replace(heard, transcript=heard.transcript.replace("PHRASE", challenge.phrase))
        try:
            decision = world.answer(challenge, heard, uid=uid, door=door)
        except KilledError:
            if isinstance(heard, Evidence) and passes(heard, challenge, door, uid):
                seen.failures = 0  # it may have got as far as taking the failures back
            self.it_was_killed()
            return
        TALLY["answers"] += 1
        TALLY[f"decided {decision.outcome}"] += 1
        self.explanation_is_right(decision, heard)
        fresh = self.open.get(door) is challenge and challenge.binding.person == uid
        if decision.outcome in JUDGED or decision.findings:
            assert fresh, "evidence was weighed for a challenge that was not open here for this person"
            assert challenge.challenge_id not in self.answered, "a challenge was answered twice"
            self.answered.add(challenge.challenge_id)
            self.within_limits(seen, now_s)
        if self.open.get(challenge.binding.door) is challenge:
            del self.open[challenge.binding.door]
        if decision.outcome in JUDGED:
            seen.failures += 1
            seen.last_s = now_s
        elif decision.findings:
            seen.failures = 0
        before_llr = self.words_before(decision, heard, door, uid)
        if decision.outcome is Outcome.AWAITING_SECOND_PERSON:
            self.first_of_two = (uid, now_s)
        if decision.opens:
            assert isinstance(heard, Evidence)
            if before_llr and not passes(heard, challenge, door, uid):
                TALLY["opened by two weak phrases"] += 1
                heard = replace(heard, phrase_llr=heard.phrase_llr + before_llr)
            self.check_opening(decision, heard, challenge, door, uid, now_s)

    def words_before(self, decision: Decision, heard: object, door: str, uid: str) -> float:
        """What an earlier phrase may add to this one's words; notes what this one may add to the next."""
        if not isinstance(heard, Evidence) or not (decision.findings or decision.outcome in JUDGED):
            return 0.0
        before_llr, until_s = self.weak_words.pop((door, uid), (0.0, 0.0))
        if decision.outcome is Outcome.STEP_UP and heard.phrase_llr == 1.25 and heard.speaker_llr == 8.0:
            self.weak_words[door, uid] = (heard.phrase_llr, self.world.monotonic_s + 60.0)
        return before_llr if self.world.monotonic_s <= until_s else 0.0

    def check_opening(
        self, decision: Decision, heard: Evidence, challenge: Challenge, door: str, uid: str, now_s: float
    ) -> None:
        TALLY["openings"] += 1
        assert passes(heard, challenge, door, uid), "a door opened without every factor"
        assert decision.person in RULES.people
        assert decision.person == (uid or heard.identified.uid if heard.identified else uid)
        assert {f.factor for f in decision.findings} == {Factor.PHRASE, Factor.VOICE, Factor.LIVE}
        assert all(isinstance(f, Finding) and f.passed for f in decision.findings)
        if door == "pharmacy":
            assert self.first_of_two is not None, "a door for two opened for one"
            first, at_s = self.first_of_two
            assert first != uid
            assert now_s - at_s <= 40.0
            self.first_of_two = None

    def explanation_is_right(self, decision: Decision, heard: object) -> None:
        """What an admin would read about this decision later agrees with what was decided."""
        judged = heard if isinstance(heard, Evidence) and decision.findings else None
        trail = AuditTrail(cast(Outbox, None), CONTEXT, lambda: RULES, lambda: self.world.now)
        text = explain(trail.event_of(decision, judged), RULES)
        TALLY["explanations checked"] += 1
        assert (f"door {decision.door} opened (" in text) == decision.opens
        assert f"({decision.outcome}) because" in text
        if decision.outcome in FACTOR_SENTENCES:
            assert FACTOR_SENTENCES[decision.outcome] in text
        if decision.opens:
            assert "failed" not in text
        for finding in decision.findings:
            llr = None if judged is None else SCORE_OF[finding.factor](judged)
            if llr is None or not math.isfinite(llr):
                continue
            told = text.partition(f"{finding.factor} {llr:+.1f} (")[2].partition(")")[0]
            # The event says neither how many were searched nor what else was heard: then no verdict is given.
            if "failed" in told or "passed" in told:
                assert ("failed" in told) == (not finding.passed), text
                assert ("passed" in told) == finding.passed, text
            else:
                assert decision.outcome in (Outcome.DENIED_SPOOF, Outcome.DENIED_VOICE, Outcome.STEP_UP), text

    def within_limits(self, seen: Seen, now_s: float) -> None:
        limits = RULES.risks["standard"].attempts
        assert seen.failures < limits.disable_after, "judged although the claim is disabled"
        waited_s = (
            now_s - max(seen.last_s, self.started_s)
            if seen.last_s >= self.started_s
            else now_s - self.started_s
        )
        assert waited_s >= limits.wait_after(seen.failures), "judged although the claim had to wait"

    # --- what the world does ---

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        """One rule for all of it, so that people come more often than mishaps do."""
        if self.ended:
            return
        happening = data.draw(
            st.sampled_from(
                [
                    self.time_passes,
                    self.somebody_sets_the_clock,
                    self.power_returns,
                    self.it_will_be_killed_at_a_write,
                    self.it_will_be_killed_some_time,
                    self.an_admin_pardons,
                    self.a_thief_copies_the_disk,
                    self.the_thief_puts_an_old_copy_back,
                ]
            )
        )
        happening(data.draw)

    def time_passes(self, draw: Draw) -> None:
        self.world.later(draw(PAUSES))

    def somebody_sets_the_clock(self, draw: Draw) -> None:
        self.world.wall += timedelta(hours=draw(st.sampled_from([-8760, -1, 1, 8760])))

    def power_returns(self, draw: Draw | None = None) -> None:
        TALLY["restarts"] += 1
        self.world.restart()
        self.started_s = self.world.monotonic_s
        for seen in self.book.values():
            seen.last_s = -1.0
        self.open.clear()
        self.first_of_two = None

    def it_was_killed(self) -> None:
        if not self.some_time:
            TALLY["killed at a chosen write"] += 1
            self.power_returns()
            return
        # What is on the disk now is chance. So the history ends here, with what must hold whatever it is:
        # Hypothesis would not find its way back through choices that hang on chance.
        TALLY["killed at any moment"] += 1
        self.some_time = False
        self.power_returns()
        for challenge in self.shown[-3:]:
            self.answer(challenge, evidence(), challenge.binding.door, challenge.binding.person)
        for door, uid in (("ward", "ANNA"), ("airlock", "BRUNO"), ("pharmacy", "ANNA"), ("ward", "badge-1")):
            self.try_often(door, uid, [(evidence(voice=-8.0), 1.0)] * 7)
            self.world.later(121.0)
            self.try_often(door, uid, [(evidence(), 1.0)])
        self.no_failure_that_was_told_is_forgotten()
        self.ended = True

    def it_will_be_killed_at_a_write(self, draw: Draw) -> None:
        if not self.some_time:
            self.world.die_in = draw(st.integers(0, 4)), draw(st.sampled_from(At))

    def it_will_be_killed_some_time(self, draw: Draw) -> None:
        self.world.die_in = None
        self.world.die_after_us = draw(st.integers(0, 1500))
        self.some_time = True

    def an_admin_pardons(self, draw: Draw) -> None:
        uid = draw(st.sampled_from(["ANNA", "BRUNO"]))
        subject = f"person:{uid}"
        self.book[subject] = Seen(0, self.book.get(subject, Seen()).last_s)
        try:
            self.world.pardon(uid)
        except KilledError:
            self.it_was_killed()

    def a_thief_copies_the_disk(self, draw: Draw) -> None:
        self.power_returns()
        path = self.folder / "history"
        if path.exists():
            self.copies.append(path.read_bytes())

    def the_thief_puts_an_old_copy_back(self, draw: Draw) -> None:
        if not self.copies:
            return
        self.power_returns()
        path = self.folder / "history"
        latest, old = path.read_bytes(), draw(st.sampled_from(self.copies))
        self.world.stop()
        path.write_bytes(old)
        if without_epoch(old) != without_epoch(latest):
            TALLY["old disks refused"] += 1
            with pytest.raises(HistoryRollbackError):
                self.world.start()
        path.write_bytes(latest)
        self.world.start()

    # --- what is always true ---

    @invariant()
    def no_failure_that_was_told_is_forgotten(self) -> None:
        if self.ended:
            return
        try:
            on_disk = self.world.failing()
        except KilledError:
            self.it_was_killed()
            on_disk = self.world.failing()
        for subject, seen in self.book.items():
            assert on_disk.get(subject, 0) >= seen.failures


def without_epoch(sealed: bytes) -> dict[str, object]:
    """What an attacker could gain: everything in the file but the number of the start, and times."""
    table = json.loads(opened_file(sealed, mac))
    return {name: table[name] for name in ("failures", "phrases", "positions", "locked_down", "memory")}


SCORE_OF: dict[Factor, Callable[[Evidence], float | None]] = {
    Factor.LIVE: lambda heard: heard.spoof_llr,
    Factor.VOICE: lambda heard: heard.speaker_llr,
    Factor.PHRASE: lambda heard: heard.phrase_llr,
}
FACTOR_SENTENCES = {
    Outcome.DENIED_PHRASE: "the words were not those",
    Outcome.DENIED_VOICE: "the voice did not match",
    Outcome.DENIED_SPOOF: "did not sound like a live human",
    Outcome.LOCKOUT_MAX_ATTEMPTS: "failures",
    Outcome.AWAITING_SECOND_PERSON: "opens for two people",
    Outcome.PASSBACK_DETECTED: "anti-passback",
    Outcome.DURESS: "silent alarm",
}


def passes(heard: Evidence, challenge: Challenge, door: str, uid: str) -> bool:
    """Whether this evidence may open this door, said again in other words than the product's."""
    limits = RULES.risks[RULES.doors[door].risk].thresholds
    voice_llr, needed_llr = heard.speaker_llr, limits.voice_llr
    who = uid
    if not uid:
        found = heard.identified
        if door != "gate" or found is None or not found.llr - found.runner_up_llr >= 3.0:
            return False
        voice_llr, needed_llr, who = found.llr, limits.voice_llr + math.log(found.among), found.uid
    if not math.isfinite(heard.phrase_llr):
        return False
    phrase = heard.phrase_llr >= limits.phrase_llr
    if who == "ANNA" and heard.transcript.endswith(DURESS_WORD) and challenge.phrase in heard.transcript:
        phrase = True  # her duress word was not held against the phrase it followed
    return phrase and voice_llr is not None and voice_llr >= needed_llr and heard.spoof_llr >= limits.live_llr


def invent(histories: int) -> None:
    run_state_machine_as_test(
        UnitHistory,
        settings=settings(
            max_examples=histories,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            # A kill at a random moment does not come twice alike, so there is nothing to shrink.
            phases=[Phase.generate],
        ),
    )


def test_invented_histories_never_break_a_promise():
    invent(40)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_invented_histories_never_break_a_promise(capsys: pytest.CaptureFixture[str]):
    TALLY.clear()
    while TALLY["histories"] < HISTORIES:
        invent(min(HISTORIES_A_ROUND, HISTORIES - TALLY["histories"]))
        with capsys.disabled():
            print(f"\n{', '.join(f'{count:,} {what}' for what, count in sorted(TALLY.items()))}", flush=True)
    assert TALLY["histories"] >= HISTORIES
