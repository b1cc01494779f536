"""Evidence for joins: bounded, blind to gain, the same everywhere, and no network but ours."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from device.access.policy import Thresholds
from device.audio import AudioSettings, load_utterance
from device.liveness.context import ContextChecks
from device.liveness.join_pictures import FEATURES, features, repeats
from device.liveness.joins import (
    FRAME_S,
    MOST_NETWORKS,
    REPEAT_FROM,
    SHAPES,
    JoinNetwork,
    JoinNetworks,
    shipped_network,
)
from device.liveness.weights import shipped
from quantize.evaluate.recordings.splicing import ENERGY, Source, draw
from tests.speech import Reading


def wave(reading: Reading) -> np.ndarray:
    return load_utterance(reading.path, AudioSettings()).wave()


def test_a_picture_is_made_every_10_ms_and_gain_does_not_show(reader: list[Reading]) -> None:
    speech = wave(reader[4])
    found, quieter = features(speech), features(speech * np.float32(0.1))
    assert found.shape == (len(speech) // 320 * 2, FEATURES)
    assert FRAME_S == 0.02
    assert np.abs(found - quieter).max() < 1e-3
    assert np.abs(found.mean(axis=0)).max() < 1e-3


def test_pieces_of_a_reader_pasted_together_are_heard_and_the_reader_is_not(
    reader: list[Reading], other_reader: list[Reading]
) -> None:
    network, weights = shipped_network(), shipped()
    limit = Thresholds().joins_llr or 0.0
    for readings in (reader, other_reader):
        sources = [Source(str(one.path), wave(one)) for one in readings]
        people = [weights.joins.llr(network(source.wave).score) for source in sources]
        assert min(people) > limit
        spliced = [draw(sources, ENERGY, "words", np.random.default_rng(seed)) for seed in range(16)]
        llrs = [weights.joins.llr(network(one.wave).score) for one in spliced if one is not None]
        assert np.mean(llrs) < np.mean(people) - 2.0
        assert sum(llr < limit for llr in llrs) >= 3


def test_a_word_pasted_twice_is_told_from_a_word_said_twice(reader: list[Reading]) -> None:
    speech = wave(reader[4])
    assert repeats(features(speech)) < REPEAT_FROM
    word = speech[16_000:22_400]
    pasted = np.concatenate([speech, word * np.float32(0.6), speech[:8_000]])
    assert repeats(features(pasted)) > 0.95
    hiss = np.random.default_rng(1).standard_normal(len(pasted)).astype(np.float32)
    assert repeats(features(pasted + hiss * np.float32(0.01))) > REPEAT_FROM + 0.02
    assert shipped_network()(pasted).score < shipped_network()(speech).score - 2.0
    assert repeats(features(np.zeros(3_200, np.float32))) == 0.0


def test_long_speech_is_as_whole_as_its_least_whole_stretch(reader: list[Reading]) -> None:
    network = shipped_network()
    sources = [Source(str(one.path), wave(one)) for one in reader]
    splice = draw(sources, ENERGY, "digits", np.random.default_rng(1))
    assert splice is not None
    whole = np.resize(sources[0].wave, 12 * 16_000)
    pasted = np.resize(splice.wave, 12 * 16_000)
    together = network(np.concatenate([whole, pasted]))
    assert together.score == min(network(whole).score, network(pasted).score)
    assert len(together.frames) == 2 * 12 * 50


def test_every_attempt_gets_evidence_for_joins(reader: list[Reading]) -> None:
    found = ContextChecks.open().look(wave(reader[4]))
    assert found.joins_llr is not None
    assert found.reuse_llr is None
    assert list(found.scores()) == ["reuse_llr", "consistency_llr", "joins_llr"]


def test_what_the_networks_say_is_averaged(reader: list[Reading]) -> None:
    networks, speech = shipped_network(), wave(reader[4])
    assert len(networks.members) > 1
    each = [member(speech) for member in networks.members]
    together = networks(speech)
    assert together.score == pytest.approx(np.mean([one.score for one in each]), abs=1e-5)
    np.testing.assert_allclose(together.frames, np.mean([one.frames for one in each], axis=0), atol=1e-4)
    assert len({round(one.score, 3) for one in each}) == len(each)


def test_networks_of_another_shape_of_no_numbers_none_or_too_many_are_refused() -> None:
    network = shipped_network().members[0]
    with pytest.raises(ValueError, match="not \\(64,\\) finite numbers"):
        replace(network, frame=np.full(64, np.nan, np.float32))
    with pytest.raises(ValueError, match="finite numbers"):
        replace(network, first=network.first[1:])
    parts = {name: getattr(network, name) for name in SHAPES}
    short = {name: np.stack([part] * 2) for name, part in parts.items()}
    short["last"] = short["last"][:1]
    for data in (
        b"",
        b"no archive",
        _archive(last=np.zeros(3)),
        _archive(**parts),
        _archive(**short),
        _archive(**dict.fromkeys(parts, np.float32(1.0))),
        *(_archive(**{name: np.zeros((count, 1)) for name in parts}) for count in (0, 1)),
        _archive(**{name: np.stack([part] * (MOST_NETWORKS + 1)) for name, part in parts.items()}),
    ):
        with pytest.raises(ValueError, match=r"networks? for joins"):
            JoinNetworks.from_bytes(data)
    two = JoinNetworks.from_bytes(_archive(**{name: np.stack([part] * 2) for name, part in parts.items()}))
    assert len(two.members) == 2
    with pytest.raises(ValueError, match="network for joins"):
        JoinNetwork.from_bytes(_archive(last=np.zeros(3)))


def _archive(**parts: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **parts)
    return stream.getvalue()
