"""The parts that need the training extra (torch, scipy, pyworld). Skipped, visibly, without it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("scipy", reason="the training extra is not installed")

import onnx
import torch

from device.models.spoof import envelopes as _envelopes
from device.models.spoof.features import BINS, PICTURES, SHALLOW
from device.models.spoof.frame_rates import ANY_RATE_HZ, FRAME_RATES_HZ, SEARCHED, STATISTICS, FrameRates
from quantize.errors import QuantizeError
from quantize.train import export
from quantize.train.fitting.envelopes import fit_envelopes
from quantize.train.fitting.fit import FitSettings, Mixture, fit, weights
from quantize.train.judging.calibrate import LIVE, OF_RARITY, calibrate, columns, logistic, rarity, settled
from quantize.train.networks.moments import Moments, cells, loudspeaker_scores
from quantize.train.networks.network import POOLED, Texture, texture_scores
from quantize.train.speech.augment import Augmenter
from quantize.train.speech.bank import Bank, Held
from quantize.train.speech.replay import convolve, loudspeaker
from quantize.train.speech.scoring import eer
from research.detector.patches import learn_patches
from research.detector.scores import interval

RATE_HZ = 16_000


def voice(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """A buzz with moving formants: enough like speech for a vocoder to chew on."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE_HZ)
    pitch = 120 + 20 * np.sin(np.arange(n) / RATE_HZ * 9)
    buzz = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / RATE_HZ)) * (1 + np.sin(np.arange(n) / RATE_HZ * 25))
    return (0.1 * buzz + 0.002 * rng.standard_normal(n)).astype(np.float32)


def features_of(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).standard_normal((PICTURES, BINS, frames)).astype(np.float32) * 0.5


def test_the_exported_graph_computes_what_was_trained_and_eight_bits_stay_close(tmp_path: Path) -> None:
    torch.manual_seed(0)
    features = [features_of(frames) for frames in (62, 121, 250, 375)]
    texture, moments = Texture(), Moments()
    texture.patches = learn_patches(
        [f[SHALLOW] for f in features], np.random.default_rng(0), samples=800, rounds=2
    )
    for _ in range(5):
        moments(torch.from_numpy(cells(features[2])[None]))
    texture.eval(), moments.eval()
    exact, small = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(export.build(texture, moments, {"loudspeaker": 0.7, "moments": 0.4}), str(exact))
    export.quantise(exact, small, features)
    trained = texture_scores(texture, features)
    trained[:, 1] = 0.7 * trained[:, 1] + 0.4 * loudspeaker_scores(moments, features)
    np.testing.assert_allclose(export.session_scores(export.session(exact), features), trained, atol=1e-4)
    np.testing.assert_allclose(export.session_scores(export.session(small), features), trained, atol=0.1)


def test_heads_learn_to_tell_two_classes_apart_from_a_bank() -> None:
    rng = np.random.default_rng(0)
    real = {"spoof": False, "family": "-", "system": "-", "page": "libri"}
    made = {"spoof": True, "family": "espeak", "system": "espeak", "page": "made"}
    items = [SimpleNamespace(path=str(n), **(made if n % 2 else real)) for n in range(200)]
    vectors = rng.standard_normal((2, 200, POOLED)).astype(np.float32)
    vectors[:, 1::2, :40] += 1.5
    replayed = rng.random((2, 200)) < 0.5
    bank = Bank(
        {i.path: n for n, i in enumerate(items)}, vectors, np.zeros((2, 200, 0)), replayed, np.zeros((200, 0))
    )
    heads = fit(items, bank, FitSettings(steps=150, batch=64))
    with torch.inference_mode():
        scores = -heads(torch.from_numpy(vectors[0])).numpy()[:, 0]
    assert eer(scores[0::2], scores[1::2]) < 0.05


def test_copies_and_synthesisers_are_drawn_as_often_as_the_mixture_says() -> None:
    made = [
        SimpleNamespace(spoof=True, family=s, system=s, page="made") for s in ["world"] * 4 + ["piper"] * 4
    ]
    people = [SimpleNamespace(spoof=False, family="-", system="-", page="libri")]
    odds = weights([*made, *people], Mixture({"libri": 1.0}, rest=0.0, copies=1.5, synthesisers=0.5))
    assert odds[:4].sum() / odds[4:8].sum() == pytest.approx(3.0)


def test_only_files_that_the_bank_lacks_are_rendered(tmp_path: Path) -> None:
    from quantize.train.networks.network import Patches
    from quantize.train.speech.bank import keep

    rendered: list[str] = []

    def render_one(item: SimpleNamespace) -> tuple[np.ndarray, bool]:
        rendered.append(item.path)
        return voice(1.2, len(rendered)), item.path == "b"

    a, b, c = (SimpleNamespace(path=name) for name in "abc")
    layer = Patches().eval()
    keep(tmp_path, "train-0", [a, b], layer, render_one)
    keep(tmp_path, "train-0", [a, b, c], layer, render_one)
    keep(tmp_path, "train-0", [a, b, c], layer, render_one)
    assert rendered == ["a", "b", "c"]
    keep(tmp_path, "judge-plain", [c, b, a], layer, render_one)
    bank = Bank.load(tmp_path)
    assert bank.place == {"a": 0, "b": 1, "c": 2}
    assert bank.replayed.tolist() == [[False, True, False]]
    assert bank.vectors.shape == (1, 3, POOLED)
    assert bank.envelopes.shape == (1, 3, _envelopes.STATISTICS)
    assert bank.plain.tolist() == Held.load(tmp_path, "plain").envelopes([a, b, c]).tolist()


def test_an_empty_bank_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"research\.detector bank"):
        Bank.load(tmp_path)


def test_each_class_is_drawn_half_the_time_and_a_large_family_is_held_back() -> None:
    families = ["vits"] * 100 + ["valle"] * 4
    items = [SimpleNamespace(spoof=True, family=f, system=f, page="freevc_demo") for f in families]
    items += [SimpleNamespace(spoof=False, family="-", page=p) for p in ["libri"] * 50 + ["tortoise"] * 5]
    odds = weights(items)
    assert odds[:104].sum() == pytest.approx(0.5)
    assert odds[:100].sum() / odds[100:104].sum() == pytest.approx(5.0)


def test_a_loudspeaker_keeps_the_level_and_changes_the_spectrum() -> None:
    wave = voice()
    played = loudspeaker(wave, np.random.default_rng(3))
    assert played.std() == pytest.approx(wave.std(), rel=0.05)
    assert np.corrcoef(played, wave)[0, 1] < 0.995


def test_a_room_keeps_the_length() -> None:
    response = np.exp(-np.arange(2000) / 400).astype(np.float32)
    assert convolve(voice(), response).shape == voice().shape


def test_every_rendering_has_the_length_asked_for_and_holds_numbers() -> None:
    wave = (voice(1.2) * 32767).astype(np.int16)
    item = SimpleNamespace(wave=wave, coded=wave, spoof=False)
    augment = Augmenter([np.exp(-np.arange(2000) / 400).astype(np.float32)], [voice(3.0, 5)])
    rng = np.random.default_rng(0)
    renderings = [augment(item, 2 * RATE_HZ, rng) for _ in range(60)]
    assert {len(w) for w, _ in renderings} == {2 * RATE_HZ}
    assert all(np.isfinite(w).all() for w, _ in renderings)
    assert {replayed for _, replayed in renderings} == {True, False}


def test_the_equal_error_rate_of_known_scores() -> None:
    assert eer(np.array([1.0, 2.0, 3.0]), np.array([-1.0, -2.0])) == 0.0
    assert eer(np.array([1.0, -1.0]), np.array([1.0, -1.0])) == pytest.approx(0.5)
    rng = np.random.default_rng(0)
    low, high = interval(rng.normal(1, 1, 300), rng.normal(-1, 1, 300))
    assert low < 0.1587 < high


ZEROS = {"synthetic": -0.5, "envelopes": 0.25}


def rows(shift: float) -> list[dict[str, str]]:
    rng = np.random.default_rng(1)
    made = []
    for condition in ("plain", "coded", "noisy", "room", "replayed"):
        for label, mean in (("bonafide", shift), ("spoof", -shift)):
            for n in range(200):
                far = -shift if condition == "replayed" else shift
                made.append(
                    {
                        "condition": condition,
                        "label": label,
                        "page": "libri" if label == "bonafide" else "made",
                        "family": "-" if label == "bonafide" else ("kokoro", "espeak")[n % 2],
                        "synthetic": str(rng.normal(mean, 1)),
                        "envelopes": str(rng.normal(mean, 1)),
                        "cadence": str(rng.normal(mean, 1)),
                        "loudspeaker": str(rng.normal(far, 1)),
                        "moments": str(rng.normal(far, 1)),
                    }
                )
    return made


def test_the_default_threshold_refuses_the_share_of_people_it_was_set_for() -> None:
    heads, points = calibrate(rows(1.5), ZEROS, target_bpcer=0.03)
    assert points["bpcer_3"] == pytest.approx(0.0, abs=1e-6)
    assert points["bpcer_1"] < 0.0 < points["bpcer_5"]
    assert all(head["scale"] > 0 for head in heads.values())
    assert set(heads["loudspeaker"]["shares"]) == {"loudspeaker", "moments"}


def test_frame_rates_are_calibrated_by_people_for_certain_and_by_no_attack() -> None:
    plain = rows(1.5)
    robots = [{**r, "page": "game", "cadence": "-20"} for r in plain if r["label"] == "bonafide"][:50]
    others = [{**r, "cadence": "5"} if r["label"] == "spoof" else r for r in plain]
    heads, points = calibrate(plain, ZEROS, target_bpcer=0.03)
    for changed in ([*plain, *robots], others):
        moved, again = calibrate(changed, ZEROS, target_bpcer=0.03)
        assert moved["cadence"]["scale"] == pytest.approx(heads["cadence"]["scale"])
        assert again["bpcer_3"] == pytest.approx(points["bpcer_3"], abs=1e-6)


def test_people_alone_fit_anew_what_they_alone_fitted() -> None:
    known = rows(1.5)
    people = [r for r in known if r["label"] == "bonafide"]
    heads, points = calibrate(known, ZEROS)
    again, same = settled(heads, people, ZEROS)
    assert again == heads
    assert same == points
    louder = [{**r, "cadence": str(2.0 * float(r["cadence"]) - 3.0)} for r in people]
    moved, fitted = settled(heads, louder, ZEROS)
    assert moved["cadence"]["scale"] == pytest.approx(heads["cadence"]["scale"] / 2.0)
    assert fitted == pytest.approx(points)
    for kind in ("synthetic", "envelopes", "loudspeaker"):
        assert moved[kind]["scale"] == heads[kind]["scale"]
        assert moved[kind]["offset"] == pytest.approx(heads[kind]["offset"])


def test_what_frame_rates_say_weighs_half_of_how_rare_it_is_among_people() -> None:
    people = [r for r in rows(1.5) if r["label"] == "bonafide"]
    heads, _ = calibrate(rows(1.5), ZEROS)
    lowest = rarity(columns(people, "cadence", "bonafide", LIVE))
    assert heads["cadence"]["scale"] == pytest.approx(OF_RARITY * lowest)
    assert OF_RARITY < 1.0


def test_people_become_rare_as_fast_as_their_lowest_say() -> None:
    scores = -np.random.default_rng(5).exponential(1 / 2.5, 200_000)
    assert rarity(scores) == pytest.approx(2.5, rel=0.05)
    assert rarity(3.0 * scores + 7.0) == pytest.approx(2.5 / 3.0, rel=0.05)


def test_the_null_of_frame_rates_is_that_of_people_at_every_length() -> None:
    from device.models.spoof.norms import NORM_SECONDS
    from quantize.train.fitting.norms import LEAST_PEOPLE, fit_norms

    rng = np.random.default_rng(3)
    found = [[noise_rates(rng, 1.0 / seconds) for _ in range(LEAST_PEOPLE)] for seconds in NORM_SECONDS]
    norms = fit_norms(found)
    for people, seconds in zip(found, NORM_SECONDS, strict=True):
        each = np.array([norms.compare(one, seconds).deviations for one in people])
        np.testing.assert_allclose(each.mean(axis=0), 0.0, atol=1e-2)
        np.testing.assert_allclose(each.std(axis=0), 1.0, atol=1e-2)
        products = np.array([norms.compare(one, seconds).products for one in people])
        assert products.mean() == pytest.approx(0.0, abs=1e-2)
        assert products.std() == pytest.approx(1.0, abs=1e-2)
    with pytest.raises(QuantizeError, match="people"):
        fit_norms([*found[:3], found[3][1:]])


def noise_rates(rng: np.random.Generator, mean: float) -> FrameRates:
    """What `frame_rates` may give for somebody: each statistic around `mean`."""
    shapes = ((len(FRAME_RATES_HZ), len(STATISTICS)), (len(ANY_RATE_HZ), len(SEARCHED)))
    return FrameRates(*(rng.normal(mean, 0.2, shape) for shape in shapes), clear=1.0)


def test_what_learns_from_attacks_is_at_zero_where_people_of_unheard_sources_are() -> None:
    heads, _ = calibrate(rows(1.5), ZEROS)
    moved = {k: dict(ZEROS, **{k: ZEROS[k] + 1.0}) for k in ZEROS}
    for kind, zeros in moved.items():
        others, _ = calibrate(rows(1.5), zeros)
        lower = {k: heads[k]["offset"] - others[k]["offset"] for k in (*ZEROS, "cadence")}
        assert lower[kind] - lower["cadence"] == pytest.approx(heads[kind]["scale"])
        assert others[kind]["scale"] == heads[kind]["scale"]


def test_classes_that_do_not_overlap_get_a_slope_that_is_finite() -> None:
    scale, offset = logistic(np.linspace(4, 6, 100), np.linspace(-6, -4, 100))
    assert 0.0 < scale < 3.0
    assert offset == pytest.approx(0.0, abs=0.05)


def people_of(sources: tuple[str, ...], rng: np.random.Generator) -> tuple[list[SimpleNamespace], Bank]:
    """Fifty people of each source, one a little below the other, and as many of two attacks."""
    about = [(page, "-") for page in sources] + [("made", "espeak"), ("made", "lpc")]
    items = [
        SimpleNamespace(
            path=f"{p}/{s}/{n}", page=p, system=s, family=s, voice="", spoof=s != "-", part="train"
        )
        for p, s in about
        for n in range(50)
    ]
    vectors = rng.standard_normal((1, len(items), POOLED)).astype(np.float32)
    moves = rng.standard_normal((1, len(items), _envelopes.STATISTICS)).astype(np.float32)
    for n, item in enumerate(items):
        shift = 1.0 if item.spoof else 0.1 * sources.index(item.page)
        vectors[0, n, :60] += shift
        moves[0, n, :60] += shift
    never = np.zeros((1, len(items)), bool)
    return items, Bank({i.path: n for n, i in enumerate(items)}, vectors, moves, never, moves[0])


def test_zeros_are_those_of_the_lowest_people_of_sources_that_a_head_did_not_hear() -> None:
    from quantize.train.fitting.unfamiliar import LEARNED, zeros

    items, bank = people_of(("an4", "libri", "so762"), np.random.default_rng(2))
    held = Held({i.path: (bank.vectors[0, n], bank.envelopes[0, n]) for n, i in enumerate(items)})
    settings = FitSettings(steps=60, batch=64, envelope_steps=60)
    found = zeros(items, bank, held, settings)
    head = fit_envelopes(items, bank, settings)
    heard = {
        spoof: np.array([head.score(one) for one in held.envelopes([i for i in items if i.spoof == spoof])])
        for spoof in (False, True)
    }
    assert set(found) == set(LEARNED)
    assert np.median(heard[True]) < found["envelopes"] < np.median(heard[False])
    with pytest.raises(QuantizeError, match="sources"):
        zeros([i for i in items if i.page != "so762"], bank, held, settings)


def test_people_who_may_be_vocoded_or_robots_set_no_zero() -> None:
    from quantize.train.fitting.unfamiliar import zeros

    items, bank = people_of(("one_demo", "hedgewars", "fillets"), np.random.default_rng(2))
    held = Held({i.path: (bank.vectors[0, n], bank.envelopes[0, n]) for n, i in enumerate(items)})
    with pytest.raises(QuantizeError, match="an4"):
        zeros(items, bank, held, FitSettings(steps=1, batch=64, envelope_steps=1))


def test_the_head_on_envelopes_hears_classical_synthesis_alone_and_keeps_its_form_on_disk() -> None:
    items, bank = people_of(("an4", "libri", "so762"), np.random.default_rng(4))
    settings = FitSettings(envelope_steps=120)
    head = fit_envelopes(items, bank, settings)
    again = _envelopes.EnvelopeHead.from_bytes(head.to_bytes())
    scores = np.array([again.score(one) for one in bank.envelopes[0]])
    spoof = np.array([i.spoof for i in items])
    assert eer(scores[~spoof], scores[spoof]) < 0.05
    assert len(head.answers_bias) == 3
    with pytest.raises(QuantizeError, match="classical"):
        fit_envelopes([i for i in items if not i.spoof], bank, settings)


def test_scores_that_say_nothing_are_not_calibrated() -> None:
    with pytest.raises(QuantizeError):
        calibrate(rows(-1.5), ZEROS)


def test_training_has_no_front_end_of_its_own() -> None:
    from device.models.spoof import features as _spoof_features
    from quantize.train import release
    from quantize.train.speech import bank

    assert bank.spoof_features is _spoof_features.spoof_features
    assert release.spoof_features is _spoof_features.spoof_features
