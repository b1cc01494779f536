"""Experiments on the spoof detector, on small made-up corpora."""

from __future__ import annotations

import shutil
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("scipy", reason="the training extra is not installed")

from device.models.spoof import envelopes as _envelopes
from quantize.train.fitting.fit import FitSettings
from quantize.train.networks.network import POOLED
from quantize.train.speech.bank import Bank, Held
from quantize.train.speech.scoring import eer
from tests.quantize.train.test_training_parts import RATE_HZ, noise_rates, voice


def test_leaving_out_judges_every_page_and_every_system_with_enough_files_on_what_it_never_heard() -> None:
    from device.models.spoof.norms import NORM_SECONDS
    from quantize.train.fitting.unfamiliar import zeros
    from research.detector import splits
    from research.spoof.leaveout import ASKED, Rig, groups, leave_out, table

    def files(count: int, page: str, family: str, part: str = "train") -> list[SimpleNamespace]:
        about = {"page": page, "family": family, "system": family, "voice": "", "part": part}
        return [
            SimpleNamespace(path=f"{page}/{family}/{part}/{n}", spoof=family != "-", **about)
            for n in range(count)
        ]

    items = [*files(20, "one_demo", "-"), *files(12, "one_demo", "vits"), *files(12, "other_demo", "vits")]
    items += [*files(12, "other_demo", "-"), *files(12, "other_demo", "valle"), *files(7, "made", "rare")]
    items += [*files(24, "libri", "-", "calibration"), *files(60, "libri", "-"), *files(12, "an4", "-")]
    items += [*files(24, "made", "kokoro", "calibration"), *files(24, "made", "piper", "calibration")]
    items += [*files(24, "made", "espeak", "calibration"), *files(24, "made", "espeak")]
    items += [*files(24, "made", "lpc", "calibration"), *files(24, "made", "lpc")]
    found = [(kind, name) for kind, name, _ in groups(items, items)]
    pages = [("page", "one_demo"), ("page", "other_demo")]
    assert found == [
        *pages,
        *(("system", name) for name in ("espeak", "kokoro", "lpc", "piper", "valle", "vits")),
    ]
    for _, name, fold in groups(items, items):
        heard = splits.training(fold, items)
        assert heard
        assert not [i for i in heard if name in (i.page, i.family)]
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1, len(items), POOLED)).astype(np.float32)
    vectors[:, [i.spoof for i in items], :200] += 2.0
    moves = rng.standard_normal((1, len(items), _envelopes.STATISTICS)).astype(np.float32)
    moves[:, [i.system in ("espeak", "lpc") for i in items], :100] += 2.0
    replayed = rng.random((1, len(items))) < 0.5
    bank = Bank({i.path: n for n, i in enumerate(items)}, vectors, moves, replayed, moves[0])
    held = Held({i.path: (vectors[0, n], moves[0, n]) for n, i in enumerate(items)})
    judged = {"plain": held, "replayed": held}
    heard = [noise_rates(rng, 1.0 + i.spoof) for i in items]
    libri = [(i.path, one) for i, one in zip(items, heard, strict=True) if i.page == "libri"]
    people = [libri for _ in NORM_SECONDS]
    given = [(one, 2.0) for one in heard]
    settings = FitSettings(steps=100, batch=64, envelope_steps=60)
    usual = zeros(splits.training(None, items), bank, held, settings)
    left = list(leave_out(Rig(items, items, judged, given, people, bank, settings, usual), jobs=2))
    assert [len(one.attacks[0]) for one in left] == [12, 24, 48, 24, 48, 24, 12, 24]
    for k, name in enumerate(ASKED[:4]):
        able = [one for one in left if name != "envelopes" or one.name in ("espeak", "lpc")]
        assert max(eer(one.people[k], one.attacks[k]) for one in able) < 0.2
    assert table(left).row_count == len(left) + 2


def test_the_pooled_baseline_tells_a_buzz_from_noise_and_treats_small_classes_alike() -> None:
    from research.spoof.baselines import lfcc, logistic

    rng = np.random.default_rng(0)
    waves = [voice(1.0, n) for n in range(6)] + [0.1 * rng.standard_normal(RATE_HZ) for _ in range(24)]
    rows = np.array([lfcc(np.asarray(wave)) for wave in waves])
    assert rows.shape == (30, 120)
    scores = logistic(rows, np.arange(30) < 6)(rows)
    assert eer(scores[6:], scores[:6]) == pytest.approx(0.0, abs=1e-12)


def test_what_is_laid_beside_speech_lies_as_far_below_it_as_asked() -> None:
    from research.spoof import limits

    rng = np.random.default_rng(0)
    wave = voice(2.0, 1).astype(np.float32)
    for sound in (limits.comb(len(wave), rng, 50.0, 4_000.0, 1.0), limits.beeps(len(wave), 960.0, 0.2, 0.4)):
        added = limits.beside(wave, sound, 20.0) - wave
        assert 10 * np.log10((wave**2).mean() / (added**2).mean()) == pytest.approx(20.0, abs=0.1)


def test_speech_that_is_played_faster_is_shorter_and_wobbling_keeps_its_length() -> None:
    from research.spoof import limits

    wave = voice(2.0, 2).astype(np.float32)
    assert len(limits.faster(wave, 1.03)) == pytest.approx(len(wave) / 1.03, abs=2)
    assert len(limits.wobbling(wave, 0.005, 2.0)) == len(wave)
    assert len(limits.resampled(wave, 44_100.0)) == pytest.approx(len(wave), abs=2)
    assert len(limits.middle(wave, 0.6)) == int(0.6 * RATE_HZ)
    assert all(np.isfinite(change(wave, np.random.default_rng(0))).all() for change in limits.PEOPLE.values())


@pytest.mark.skipif(shutil.which("flite") is None, reason="Debian package flite is not installed")
def test_door_phrases_are_judged_by_the_released_detector(capsys: pytest.CaptureFixture[str]) -> None:
    from quantize.networks.spoof import WEIGHTS
    from research.attacks.make import FLITE_VOICES
    from research.spoof import phrases

    if shutil.which("espeak-ng") is None:
        pytest.skip("Debian package espeak-ng is not installed")
    tone = [("a tone", np.sin(np.arange(32_000) / 9))]
    phrases.run(WEIGHTS, each=1, seed=3, speakers=("flite",), heard=lambda: tone)
    said = capsys.readouterr().out
    assert f"{len(FLITE_VOICES)} heard in training" in said
    assert "a tone" in said


def test_known_classical_synthesis_is_told_by_system_and_by_voice_that_was_not_heard() -> None:
    from rich.console import Console

    from quantize.train.speech.corpus import HELD_VOICES
    from research.spoof import classical

    def files(system: str, voice: str, count: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(spoof=system != "-", system=system, voice=voice) for _ in range(count)]

    held = next(voice for voice in HELD_VOICES if "diphone" in voice)
    judged = [*files("-", "", 40), *files("flite", "kal", 8), *files("festival", held, 6)]
    judged += files("festival", "kal_diphone", 10)
    scores = np.where([[i.spoof] for i in judged], -3.0, 3.0) * np.ones((1, 2))
    missed = scores.copy()
    missed[48:54] = 2.0
    console = Console(width=200, record=True, file=StringIO())
    console.print(classical.table(judged, scores, missed), classical.voices_table(judged, missed))
    lines = [line.split("│")[1:-1] for line in console.export_text().splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert ["festival", "text", "10"] in [row[:3] for row in cells], "a voice nobody teaches is no known one"
    assert ["festival", "voice", "16"] in [row[:3] for row in cells]
    assert [f"festival {held}", "6"] in [row[:2] for row in cells]
    assert next(row for row in cells if row[0] == f"festival {held}")[2].startswith("100.0%")
    assert next(row for row in cells if row[0] == "flite kal")[2].startswith("0.0%")
