"""`ostiary policy`, as an admin types it."""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device.access.memory.history import History, HistoryError
from device.access.rules import RulesError, parse_rules
from device.commands.policy import policy
from device.errors import DeviceError
from device.evidence.vocabulary import Language
from device.evidence.wordlists import duress_words
from device.secure_store import open_store
from device.settings import load
from device.state_folder import StateFolder
from device.uplink.orders import Action, Order, OrderError, done, waiting
from sync.events import AuditEvent
from sync.outbox import Outbox


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("OSTIARY_CONFIG", raising=False)
    return tmp_path


def run(*arguments: str, **options: object) -> Result:
    return CliRunner().invoke(policy, list(arguments), **options)


def test_the_printed_example_checks_out(state):
    path = state / "rules.toml"
    path.write_text(run("example").stdout)
    result = run("check", str(path))
    assert result.exit_code == 0
    assert "in order" in result.stdout


def test_each_mistake_is_one_line_and_the_exit_code_says_no(state):
    path = state / "rules.toml"
    path.write_text('versoin = 1\n[risks.standard]\nfactors = ["voise"]\n')
    result = run("check", str(path))
    assert result.exit_code == 1
    assert "versoin is no key here; did you mean `version`?" in result.stdout
    assert len(result.stdout.splitlines()) == len(
        json.loads(run("check", "--json", str(path)).stdout)["mistakes"]
    )


def test_rules_that_this_units_german_door_cannot_follow_do_not_pass_the_check(state, monkeypatch):
    settings, path = state / "ostiary.toml", state / "rules.toml"
    monkeypatch.setenv("OSTIARY_CONFIG", str(settings))
    path.write_text(
        'version = 1\nadmit_unlisted = true\n[risks.odd.challenge]\nstyle = "sentence"\n[zones.in]\n'
        '[doors.door-1]\nzone = "in"\nrisk = "odd"\n[[allow]]\nroles = ["enrolled"]\n'
    )
    settings.write_text('[door]\nphrases = "en"\n')
    assert run("check", str(path)).exit_code == 0
    settings.write_text('[door]\nphrases = "de"\n')
    refused = run("check", str(path))
    assert refused.exit_code == 1
    assert "class odd cannot ask so: phrases of the style `sentence` are in English only" in refused.stdout
    settings.write_text('[door]\nphrases = "fr"\n')
    assert "phrases" in str(run("check", str(path)).exception)


def test_a_duress_word_may_be_of_either_language(state):
    for word in (duress_words()[0], duress_words(Language.GERMAN)[0]):
        assert run("duress", "4711", "--word", word).exit_code == 0
    assert run("duress", "4711", "--word", "Wasserfall").exit_code == 2


@pytest.mark.parametrize("when", ["06:30Z", "06:30+02:00"])
def test_hours_with_a_zone_do_not_pass_the_check(state, when):
    path = state / "rules.toml"
    path.write_text(
        'version = 1\n[risks.standard]\nfactors = ["claim", "voice"]\n[zones.ward]\n'
        '[doors.door-1]\nzone = "ward"\nrisk = "standard"\n'
        f'[schedules.s]\nfrom = "{when}"\nto = "23:59"\n'
        '[[allow]]\nroles = ["enrolled"]\nschedule = "s"\n[people.4712]\nbadges = ["4712"]\n'
    )
    result = run("check", str(path))
    assert result.exit_code == 1
    assert "without a zone" in result.stdout
    path.write_text(path.read_text().replace(when, "06:30"))
    assert run("check", str(path)).exit_code == 0


def test_a_decision_in_the_log_is_explained(state):
    StateFolder(state).rules.write_text(run("example").stdout)
    event = AuditEvent(
        event_id=uuid.uuid4(),
        time_ms=1_764_000_000_000,
        boot=1,
        monotonic_ms=9,
        door="pharmacy",
        kind="DENIED_SPOOF",
        reason="not_live",
        phrase_llr=6.0,
        speaker_llr=7.0,
        spoof_llr=-2.0,
        policy="rules-7",
    )
    with Outbox(
        StateFolder(state).audit_log, unit="site-1/unit-1", doors={"pharmacy"}, now_ms=lambda: event.time_ms
    ) as log:
        log.append(event)
        listed = run("recent").stdout
        assert str(event.event_id) in listed
        assert "DENIED_SPOOF (not_live)" in listed
        (fact,) = json.loads(run("recent", "--json").stdout)
        assert fact["event_id"] == str(event.event_id)
        text = run("explain", str(event.event_id)).stdout
        facts = json.loads(run("explain", "--json", str(event.event_id)).stdout)
    assert "stayed locked (DENIED_SPOOF)" in text
    assert "live -2.0 (failed, +1.2 needed)" in text
    assert facts["kind"] == "DENIED_SPOOF"
    assert facts["explanation"] == text.strip()


def test_an_event_that_is_not_in_the_log_is_said_to_be_elsewhere(state):
    with Outbox(StateFolder(state).audit_log, unit="site-1/unit-1", doors={"a"}, now_ms=lambda: 1):
        result = run("explain", str(uuid.uuid4()))
    assert isinstance(result.exception, DeviceError)
    assert "registry" in str(result.exception)


def test_what_is_not_an_event_id_is_a_usage_error(state):
    assert run("explain", "yesterday").exit_code == 2


def test_a_duress_line_fits_into_a_rules_file_and_does_not_show_the_word(state):
    word = duress_words()[0]
    line = run("duress", "4f2a", "--word", word).stdout.strip().splitlines()[-1]
    assert word not in line
    text = run("example").stdout.split("[people.4f2a]")[0] + f'[people.4f2a]\nroles = ["nurse"]\n{line}\n'
    assert len(parse_rules(text).people["4F2A"].duress[0]) == 16


def test_a_duress_word_that_phrases_might_hold_is_refused(state):
    assert run("duress", "4f2a", "--word", "please").exit_code == 2


def opened(state: Path) -> tuple[History, object]:
    store = open_store(state, load().store)
    history = History(StateFolder(state).history, store.keystore.counter("attempts"), store.mac, opened_s=0.0)
    return history, store


def test_failures_are_listed_and_pardoned(state):
    history, store = opened(state)
    for _ in range(3):
        history.charge("person:4F2A", 0.0)
    history.close()
    store.close()
    assert json.loads(run("failures", "--json").stdout.splitlines()[-1]) == {"person:4F2A": 3}
    assert "may try again" in run("pardon", "4f2a").stdout
    assert json.loads(run("failures", "--json").stdout.splitlines()[-1]) == {}
    assert run("pardon", "4f2a").exit_code == 1, "neither enrolled nor in the rules"
    knows(state, "4f2a")
    assert "had no failures" in run("pardon", "4f2a").stdout


def knows(state: Path, uid: str) -> None:
    """Rules in force that name this person."""
    rules = state / "rules-of-one.toml"
    rules.write_text(f"{rules_text(1)}[people.{uid}]\nbadges = ['111']\n")
    assert run("adopt", str(rules)).exit_code == 0


def test_a_damaged_memory_is_begun_anew_only_after_a_yes(state):
    history, store = opened(state)
    history.charge("person:4F2A", 0.0)
    history.close()
    store.close()
    StateFolder(state).history.write_bytes(b"damaged")
    assert isinstance(run("failures").exception, HistoryError)
    assert run("start-over", input="n\n").exit_code == 1
    assert isinstance(run("failures").exception, HistoryError)
    assert run("start-over", input="y\n").exit_code == 0
    assert json.loads(run("failures", "--json").stdout.splitlines()[-1]) == {}


@pytest.fixture
def running(state: Path):
    """Somebody holds the history, as a running unit does, and obeys orders."""
    history, store = opened(state)
    stop = threading.Event()
    taken: list[Order] = []

    def obey() -> None:
        while not stop.wait(0.02):
            for path, order in waiting(StateFolder(state).orders):
                taken.append(order)
                done(path, "no such door" if order.subject == "moon" else "")

    thread = threading.Thread(target=obey)
    thread.start()
    yield taken
    stop.set()
    thread.join()
    history.close()
    store.close()


def test_a_running_unit_is_ordered_and_answers(state, running):
    refused = run("pardon", "4f2a")
    assert refused.exit_code == 1
    assert "knows nobody called 4F2A" in refused.stderr
    assert not running, "a mistyped id is no order"
    knows(state, "4f2a")
    assert "may try again" in run("pardon", "4f2a").stdout
    assert "every door" in run("lock-down").stdout
    assert "lifted" in run("lock-down", "--lift").stdout
    refused = run("lock-down", "--door", "moon")
    assert isinstance(refused.exception, OrderError)
    assert [order.action for order in running] == [
        Action.ADOPT_RULES, Action.PARDON, Action.LOCK_DOWN, Action.END_LOCK_DOWN, Action.LOCK_DOWN
    ]  # fmt: skip


def test_a_mistyped_door_is_not_locked_down_on_a_stopped_unit_and_that_is_said(state):
    refused = run("lock-down", "--door", "doro-1")
    assert refused.exit_code == 2
    assert "doro-1" in refused.output
    history, store = opened(state)
    assert not history.locked_down("doro-1")
    history.close()
    store.close()


def test_a_stopped_unit_is_locked_down_when_it_starts(state):
    assert run("lock-down").exit_code == 0
    history, store = opened(state)
    assert history.locked_down("door-1")
    history.close()
    store.close()


def rules_text(version: int, door: str = "door-1") -> str:
    return (
        f'version = {version}\n[risks.a]\n[zones.z]\n[doors.{door}]\nzone = "z"\nrisk = "a"\n'
        '[[allow]]\nroles = ["enrolled"]\n'
    )


def test_rules_are_adopted_whole_and_only_forwards(state, tmp_path):
    new = tmp_path / "new.toml"
    for version, code in ((3, 0), (3, 1), (2, 1), (4, 0)):
        new.write_text(rules_text(version))
        assert run("adopt", str(new)).exit_code == code
    assert "version = 4" in StateFolder(state).rules.read_text()
    for wrong in (rules_text(9, "other"), rules_text(9) + "colour = 1"):
        new.write_text(wrong)
        assert isinstance(run("adopt", str(new)).exception, RulesError)
    assert "version = 4" in StateFolder(state).rules.read_text()


def test_levels_are_told_to_an_admin_and_to_a_program():
    spoken = run("levels").stdout
    assert [line.split(":")[0] for line in spoken.splitlines() if not line.startswith(" ")] == [
        "standard",
        "drugs",
        "max",
    ]
    written = [json.loads(line) for line in run("levels", "--json").stdout.splitlines()]
    assert written[1]["voice_llr"] == 4.6
    assert written[2]["words"] == 7
