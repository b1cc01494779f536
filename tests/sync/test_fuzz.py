"""Hostile bytes into every decoder: it takes them or raises its one error, whatever they are."""

from __future__ import annotations

import os

import pytest

from tests.sync.fuzz import corpus, decoders, hunt

ROUNDS = int(os.environ.get("OSTIARY_FUZZ_ROUNDS", "3000"))
"""Of each decoder; a person sets more."""


@pytest.mark.parametrize("name", sorted(decoders()))
def test_an_honest_message_is_taken(name: str) -> None:
    for seed in decoders()[name].seeds:
        decoders()[name].feed(seed)


@pytest.mark.parametrize("name", sorted(decoders()))
def test_what_was_found_before_is_refused_with_the_one_error(name: str) -> None:
    decoder, known = decoders()[name], corpus(name)
    assert known, "each decoder has a corpus"
    for data in known:
        try:
            decoder.feed(data)
        except decoder.errors:
            continue


@pytest.mark.parametrize("name", sorted(decoders()))
def test_nothing_but_the_one_error_comes_out_of_a_decoder(name: str) -> None:
    found = hunt(name, ROUNDS, seed=19)
    assert [(type(err), str(err), data.hex()[:400]) for data, err in found[:3]] == []
