"""The table of what staff and rooms do to a sound: counted rightly, and playable in seconds with a few."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from device.audio.utterance import Quality
from device.evidence.judge import Evidence, JudgeError, Timings
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording
from research.trials import disturbed, sounds
from research.trials.disturbances import PAUSE_S, Said, dice_of, pause
from tests.device.conftest import models as models
from tests.speech import Reading

GOOD = Quality(3.0, 25.0, 0.0, -20.0, 7_000.0)
TIMES = Timings(1.0, 1.0, 1.0, 1.0)
PASSING = Evidence(8.0, 8.0, 4.0, "", GOOD, TIMES, ("w", "s", "p"))


def test_each_sound_counts_once_by_what_became_of_it() -> None:
    counted = disturbed.Counted()
    alarmed = replace(PASSING, spoof_llr=-5.0, quality=replace(GOOD, steady_lines=20))
    plain = replace(alarmed, quality=GOOD)
    counted.note("ann", disturbed.Pair(PASSING, PASSING))
    counted.note("bob", disturbed.Pair(plain, alarmed))
    counted.note("cem", disturbed.Pair(JudgeError("broken"), replace(PASSING, phrase_llr=-9.0)))
    before, after = counted.shares(having=False), counted.shares(having=True)
    assert (before["units"], before["sounds"]) == (3, 3)
    assert {name: before[name][0] for name in disturbed.OUTCOMES if before[name][0]} == {
        disturbed.IN: 1,
        disturbed.ATTACKER: 1,
        disturbed.OTHER: 1,
    }
    assert {name: after[name][0] for name in disturbed.OUTCOMES if after[name][0]} == {
        disturbed.IN: 1,
        disturbed.AGAIN: 1,
        disturbed.PHRASE: 1,
    }
    assert after["told"]["DENIED_QUALITY/disturbed/noise_over_words"] == 1


def test_a_pause_adds_nothing_but_quiet_in_the_middle() -> None:
    wave = np.full(32_000, 0.3, np.float32)
    wave[13_000:18_000] = 0.0
    one = Recording("a.flac", "bonafide", "ann", "", "nine two", "", "")
    said = pause(wave, one, None, dice_of("a.flac", "pause"))  # type: ignore[arg-type]
    assert isinstance(said, Said)
    assert said.hesitates
    assert len(said.wave) == len(wave) + round(PAUSE_S * 16_000)
    assert np.square(said.wave).sum() == pytest.approx(np.square(wave).sum(), rel=1e-3)


@pytest.mark.slow
def test_the_command_plays_a_few_to_their_end(
    tmp_path: Path, models: Path, reader: list[Reading], other_reader: list[Reading]
) -> None:
    """Both readers under names on which nothing is fitted."""
    names = [name for name in (f"p{n}" for n in range(40)) if not fits(name)]
    rows = ["path\tlabel\tspeaker\tsystem\tseconds\ttext\tsource\tlicence"]
    for name, readings in zip(names, (reader, other_reader), strict=False):
        for number, one in enumerate(readings[:5]):
            sound, rate_hz = soundfile.read(one.path, dtype="float32", frames=6 * 16_000)
            path = tmp_path / f"so762/{name}/{number}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, sound, rate_hz)
            rows.append(
                f"{path.relative_to(tmp_path)}\tbonafide\t{name}\t\t{len(sound) / rate_hz}\t{one.text}\tx\tx"
            )
    (tmp_path / "m.tsv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "out.json"
    ran = CliRunner().invoke(
        disturbed.main,
        [
            *("--manifest", str(tmp_path / "m.tsv"), "--root", str(tmp_path), "--out", str(out)),
            *("--models", str(models), "--people", "1", "--attacks", "0"),
            *("--only", "as said", "--only", "pause", "--only", "mains"),
        ],
        catch_exceptions=False,
    )
    assert ran.exit_code == 0, ran.output
    found = json.loads(out.read_text())
    people = found["people"]
    assert set(people) == {"as said", "pause of 0.9 s", "mains buzz -20 dB"}
    assert people["as said"]["with"][disturbed.IN][:2] == [1, 1]
    hesitant = people["pause of 0.9 s"]
    assert (hesitant["without"][disturbed.IN][0], hesitant["with"][disturbed.IN][0]) == (0, 1)
    buzz = people["mains buzz -20 dB"]
    assert (buzz["without"][disturbed.ATTACKER][0], buzz["with"][disturbed.AGAIN][0]) == (1, 1)


def test_coughs_are_short_noise_that_bursts_out_and_dies_away() -> None:
    for seed in range(20):
        made = sounds.coughs(np.random.default_rng(seed), 1)
        assert made.dtype == np.float32
        assert 0.12 * 16_000 < len(made) < 0.5 * 16_000
        assert np.abs(made).max() <= 1.0
        level = np.sqrt(np.square(made[: len(made) // 320 * 320].reshape(-1, 320)).mean(axis=1))
        assert level[:4].max() > 0.5 * level.max()
        assert level[-1] < 0.5 * level.max()
    assert len(sounds.coughs(np.random.default_rng(1), 3)) > 0.4 * 16_000
