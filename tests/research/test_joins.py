"""What the network for joins learns from, and that it learns as the device hears."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the training extra is not installed")
pytest.importorskip("scipy", reason="the training extra is not installed")

import torch

from device.audio import AudioSettings, load_utterance
from device.liveness.join_pictures import FEATURES, features
from device.liveness.joins import LARGEST, JoinNetwork, JoinNetworks, shipped_network, speech_span
from quantize.evaluate.figures.calibrate import Linear
from quantize.evaluate.recordings.splicing import Source
from research.joins.fit import write
from research.joins.further import Folded, Taps, between, further
from research.joins.judged import DOOR, USUAL, evidence, llrs, other_half
from research.joins.spliced import VOICES, Example
from research.joins.varied import Varied
from tests.speech import Reading


def corpus(reader: list[Reading], other: list[Reading]) -> SimpleNamespace:
    """Two people, one of whose words are known by place, and nothing but their own speech around them."""
    people = {}
    for name, readings in (("reader", reader), ("player", other)):
        sources = []
        for one in readings:
            wave = load_utterance(one.path, AudioSettings()).wave()
            every = len(wave) / 16_000 / len(one.text.split())
            words = [(word, at * every, (at + 1) * every) for at, word in enumerate(one.text.split())]
            sources.append(Source(str(one.path), wave, tuple(words) if name == "reader" else ()))
        people[name] = sources
    noise = np.random.default_rng(3).standard_normal(32_000).astype(np.float32)
    return SimpleNamespace(
        people=people,
        names=sorted(people),
        machines=["machine.wav"],
        ward=["ward.wav"],
        rooms=["rooms/house_kitchen.wav"],
        noises=[noise],
        read=lambda path: people["player"][0].wave if path == "machine.wav" else noise * np.float32(0.01),
    )


def drawn(around: SimpleNamespace, seed: int, count: int) -> list[Example]:
    maker, dice = Varied(around, lambda person: person != "player"), np.random.default_rng(seed)
    return [maker.example(dice) for _ in range(count)]


def test_examples_follow_their_seed_leave_out_whom_nobody_wants_and_say_where_they_join(
    reader: list[Reading], other_reader: list[Reading]
) -> None:
    around = corpus(reader, other_reader)
    found, again = drawn(around, 5, 40), drawn(around, 5, 40)
    digest = [hashlib.sha256(one.pictures.tobytes()).hexdigest() for one in found]
    assert digest == [hashlib.sha256(one.pictures.tobytes()).hexdigest() for one in again]
    assert {one.person for one in found} == {"reader", "machine.wav"}
    assert 10 <= sum(one.spliced for one in found) <= 30
    for one in found:
        assert one.pictures.shape[1] == FEATURES
        assert np.isfinite(one.pictures.astype(np.float32)).all()
        assert len(one.joins_s) >= 1 if one.spliced else len(one.joins_s) == 0
        assert all(0 < at < len(one.pictures) / 100 for at in one.joins_s)
    assert {one.kind for one in found if one.person == "machine.wav" and not one.spliced} <= {
        "machine",
        "pauses",
    }


def test_the_network_that_learns_hears_what_the_device_hears(reader: list[Reading]) -> None:
    network = shipped_network().members[0]
    net = Folded(network).eval()
    pictures = features(load_utterance(reader[4].path, AudioSettings()).wave())[:600]
    scaled = ((pictures - network.mean) / network.scale).clip(-LARGEST, LARGEST)
    there, speech = torch.zeros(1, 340), torch.zeros(1, 340)
    there[0, : len(pictures) // 2] = 1.0
    speech[0, speech_span(pictures)] = 1.0
    padded = np.pad(scaled, ((0, 680 - len(scaled)), (0, 0)))
    with torch.no_grad():
        logits, whole = net(torch.from_numpy(padded[None]), there, speech)
    heard = network.of_pictures(pictures)
    span = speech_span(pictures)
    np.testing.assert_allclose(logits[0, span].numpy(), heard.frames[span], atol=2e-3)
    assert abs(float(whole[0]) + heard.score) < 5e-3


def test_slopes_are_those_of_torch() -> None:
    seen = torch.randn(2, 30, 8, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    for apart in (1, 4, 16):
        assert torch.autograd.gradcheck(lambda a, b, d=apart: Taps.apply(a, b, d), (seen, taps))


def test_a_network_goes_on_learning_and_keeps_its_form(
    reader: list[Reading], other_reader: list[Reading]
) -> None:
    some = drawn(corpus(reader, other_reader), 6, 48)
    base = shipped_network().members[0]
    taught = further(base, some, 3.0)
    assert isinstance(taught, JoinNetwork)
    assert np.array_equal(taught.mean, base.mean.astype(np.float16).astype(np.float32))
    assert not np.array_equal(taught.mixes, base.mixes)


def test_between_two_networks_lies_their_mean(reader: list[Reading], other_reader: list[Reading]) -> None:
    base = shipped_network().members[0]
    other = JoinNetwork(**{name: getattr(base, name) * np.float32(2.0) for name in base.__slots__})
    mean = between(base, other, 0.25)
    np.testing.assert_allclose(mean.mixes, base.mixes * 1.25, rtol=1e-3, atol=1e-6)


def test_nobody_is_judged_by_a_map_that_was_fitted_on_them(
    reader: list[Reading], other_reader: list[Reading]
) -> None:
    some = drawn(corpus(reader, other_reader), 8, 24)
    assert (other_half("anne"), other_half("carol")) == (False, True)
    network = shipped_network().members[0]
    sets = {
        kind: [replace(one, person=name) for one in some[first : first + 12]]
        for kind, name, first in ((USUAL, "anne", 0), (DOOR, "anne", 0), (VOICES, "carol", 12))
    }

    def offset_is_the_first_target(targets: np.ndarray, nontargets: np.ndarray, prior: float) -> Linear:
        return Linear(np.ones(targets.shape[1]), 1_000.0 + targets[0, 0] + len(targets) + len(nontargets))

    found = llrs(JoinNetworks((network,)), sets, offset_is_the_first_target)
    for kind, fitted_on in ((USUAL, VOICES), (DOOR, VOICES), (VOICES, USUAL)):
        rows = {
            spliced: [
                -evidence(network, one.pictures.astype(np.float32))
                for one in sets[fitted_on]
                if one.spliced is spliced
            ]
            for spliced in (False, True)
        }
        offset = 1_000.0 + rows[False][0][0] + 12
        own = [-evidence(network, one.pictures.astype(np.float32)).sum() for one in sets[kind]]
        np.testing.assert_allclose(found[kind], np.array(own) + offset, rtol=1e-6)


def test_networks_are_written_as_they_were_weighed_and_read_again(
    reader: list[Reading], other_reader: list[Reading], tmp_path: Path
) -> None:
    some = drawn(corpus(reader, other_reader), 9, 24)
    members = shipped_network().members[:2]
    (tmp_path / "weights.toml").write_text('version = "old"\n\n[joins]\nscale = 9.0\noffset = 9.0\n')
    lines = {6: Linear(np.array([0.8, 0.1, 0.3, 0.2, 0.05, 2.0]), 0.3), 1: Linear(np.array([1.5]), -0.2)}
    write(tmp_path, members, some, lambda one_go, _, prior: lines[one_go.shape[1]])
    table = tomllib.loads((tmp_path / "weights.toml").read_text())
    assert table["version"].startswith("liveness-")
    assert table["joins"] == {"scale": 1.5, "offset": -0.2}
    networks = JoinNetworks.from_bytes((tmp_path / "joins.npz").read_bytes())
    for one in some[:10]:
        pictures = one.pictures.astype(np.float32)
        expected = [float(lines[6].llr(-evidence(member, pictures)[None])[0]) for member in members]
        own = [member.of_pictures(pictures).score for member in networks.members]
        np.testing.assert_allclose(own, expected, atol=0.03)
        assert networks.of_pictures(pictures).score == pytest.approx(np.mean(expected), abs=0.03)
