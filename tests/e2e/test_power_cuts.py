"""The plug is pulled, again and again, at random moments: nobody is lost, nobody comes back, no lockout.

A cut is SIGKILL to the unit's process, to the TPM, or to both, with no shutdown command. It shows that the
order of the writes is right; what a disk loses that lied about fsync it cannot show.

A cut comes at a moment of the clock, mostly while the unit still starts, or shortly after the unit has told
of some of its actions: on a slow, busy machine too.

    pytest tests/e2e/test_power_cuts.py                        80 cuts
    OSTIARY_POWER_CUTS=1000 pytest tests/e2e/test_power_cuts.py --timeout 7200
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from device.secure_store import NotEnrolledError, Store, StoreError, StoreSettings, open_store
from device.secure_store.errors import RecordDamagedError, RollbackError, SealPolicyError, TpmLockedError
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.hardware.tpm import Tpm
from tests.device.secure_store.people import same_voice, voiceprint

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(7200)]

CUTS = int(os.environ.get("OSTIARY_POWER_CUTS", "80"))
UIDS = tuple(f"badge {n}" for n in range(8))
STARTING_S = 0.4
"""A start takes about as long."""
MOST_WORDS = 14
"""What a unit tells of six or seven changes: two words each, after that it has checked everybody."""
SHORTLY_S = 0.03
FATAL = (RollbackError, SealPolicyError, TpmLockedError, RecordDamagedError)


@dataclass(frozen=True)
class Cut:
    """When the plug is pulled: `after_s` from the moment at which the unit has told `words`."""

    after_s: float
    words: int = 0

    @classmethod
    def sometime(cls, dice: random.Random) -> Cut:
        if dice.random() < 0.5:
            return cls(dice.uniform(0, STARTING_S))
        return cls(dice.uniform(0, SHORTLY_S), dice.randint(1, MOST_WORDS))


@dataclass
class Expectation:
    """uid -> seed of the voiceprint (None: nobody). An action that was begun may or may not have happened."""

    people: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(UIDS))
    begun: tuple[str, int | None] | None = None
    actions: int = 0
    seen_counter: int = 0

    def allowed(self, uid: str) -> set[int | None]:
        also = {self.begun[1]} if self.begun and self.begun[0] == uid else set()
        return {self.people[uid], *also}


def test_power_cuts_lose_nobody_corrupt_nothing_and_never_lock_the_tpm(tmp_path: Path) -> None:
    dice = random.Random(20260601)
    tpm = SwTpm(tmp_path / "tpm")
    settings = tpm.settings()
    expected = Expectation()
    checks = 0
    try:
        for cut in range(CUTS + 1):
            tpm.start()
            pulls_the_plug = cut < CUTS
            when = Cut.sometime(dice) if pulls_the_plug else None
            victims = dice.choice(("both", "both", "unit", "tpm"))
            checks += _one_life(tmp_path / "state", settings, tpm, expected, when, victims, cut)
            if cut % 20 == 0 or not pulls_the_plug:
                tpm.reboot()
                state = Tpm(tpm.tcti, 0x8100_5A00).lockout()
                assert not state.in_lockout
                assert state.failures == 0
            tpm.power_cut()
            if cut and cut % 100 == 0:
                print(f"{cut} cuts, {expected.actions} changes confirmed, {checks} full checks", flush=True)
    finally:
        tpm.power_cut()
    print(f"\n{CUTS} power cuts, {expected.actions} changes confirmed, {checks} full checks")
    assert checks >= CUTS // 10, "hardly any life was long enough to check the vault"
    assert expected.actions >= CUTS // 10, "hardly any change was confirmed between cuts"


def test_power_cuts_while_a_unit_is_provisioned_leave_nothing_to_clean_up(tmp_path: Path) -> None:
    dice = random.Random(7)
    for round_ in range(3):
        tpm = SwTpm(tmp_path / f"tpm-{round_}")
        state, expected = tmp_path / f"state-{round_}", Expectation()
        try:
            for cut in range(6):
                tpm.start()
                _one_life(state, tpm.settings(), tpm, expected, Cut(dice.uniform(0.05, 0.5)), "both", cut)
                tpm.power_cut()
            tpm.start()
            assert _one_life(state, tpm.settings(), tpm, expected, None, "none", 99) == 1
        finally:
            tpm.power_cut()


def _one_life(
    state: Path,
    settings: StoreSettings,
    tpm: SwTpm,
    expected: Expectation,
    cut: Cut | None,
    victims: str,
    seed: int,
) -> int:
    """Run the unit in a process of its own until the cut. Returns 1 if it came to check everybody."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 70
        try:
            _unit(state, settings, expected, writing, seed, actions=3 if cut is None else None)
            status = 0
        except TpmLockedError:
            traceback.print_exc()
        except StoreError as err:  # the TPM went away under it: a unit that stays locked, as it should
            _say(writing, fatal=f"{type(err).__name__}: {err}") if isinstance(err, FATAL) else None
            status = 75
        except BaseException:  # noqa: BLE001 - the fork must never return into pytest
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    told = b""
    if cut is not None:
        while told.count(b"\n") < cut.words and (more := os.read(reading, 1 << 16)):
            told += more
        time.sleep(cut.after_s)
        if victims in ("tpm", "both"):
            tpm.power_cut()
        if victims == "tpm":
            time.sleep(0.05)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        said = (told + pipe.read()).splitlines()
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert os.WEXITSTATUS(status) in (0, 75), "the unit crashed"
    return _believe(expected, [json.loads(line) for line in said])


def _unit(
    state: Path,
    settings: StoreSettings,
    expected: Expectation,
    out: int,
    seed: int,
    actions: int | None,
) -> None:
    """Start, check everybody, then change things until the lights go out."""
    dice = random.Random(seed)
    with open_store(state, settings) as store:
        _say(out, checked=_check(store, expected), counter=store.vault.status().counter)
        done = 0
        while actions is None or done < actions:
            uid, what = dice.choice(UIDS), dice.random()
            enrolled = uid in store.vault.uids()
            if what < 0.5 or not enrolled:
                number = dice.randrange(1 << 30)
                _say(out, begin=[uid, number])
                store.vault.enrol(uid, voiceprint(number))
                _say(out, done=[uid, number])
            elif what < 0.85:
                _say(out, begin=[uid, None])
                store.vault.forget(uid)
                _say(out, done=[uid, None])
            else:
                store.vault.rotate()
            done += 1


def _check(store: Store, expected: Expectation) -> dict[str, int | None]:
    """Who is there now; fails for anybody who should not be as they are."""
    status = store.vault.status()
    assert not status.damaged, status.notes
    assert status.counter >= expected.seen_counter, "the vault went back in time"
    found: dict[str, int | None] = {}
    for uid in UIDS:
        try:
            template = store.vault.template(uid)
        except NotEnrolledError:
            found[uid] = None
        else:
            matches = [
                s for s in expected.allowed(uid) if s is not None and same_voice(template, voiceprint(s))
            ]
            assert matches, f"{uid} has a voiceprint nobody gave them"
            found[uid] = matches[0]
        assert found[uid] in expected.allowed(uid), f"{uid}: {found[uid]} is none of {expected.allowed(uid)}"
    return found


def _believe(expected: Expectation, said: list[dict[str, object]]) -> int:
    checks = 0
    for word in said:
        assert "fatal" not in word, word
        match word:
            case {"checked": dict(people), "counter": int(counter)}:
                expected.people, expected.begun, expected.seen_counter = dict(people), None, counter
                checks += 1
            case {"begin": [str(uid), seed]}:
                expected.begun = (uid, seed if isinstance(seed, int) else None)
            case {"done": [str(uid), seed]}:
                expected.people[uid] = seed if isinstance(seed, int) else None
                expected.begun = None
                expected.actions += 1
    return checks


def _say(out: int, **words: object) -> None:
    os.write(out, json.dumps(words).encode() + b"\n")
