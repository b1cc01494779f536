"""Which packages of Debian hold the people whom the shipped detector was fitted on."""

from __future__ import annotations

from pathlib import Path

from quantize.train.speech import corpus


def test_packages_whose_people_are_missing_are_named(tmp_path: Path) -> None:
    there = ("asterisk", "it_IT_m_Carlo", str(tmp_path), "*.g722", 70)
    (tmp_path / "activated.g722").touch()
    gone = [(*one[:2], f"{tmp_path}/none", *one[3:]) for one in corpus.PACKAGED]
    assert corpus.absent([there]) == ()
    assert corpus.absent([there, *gone]) == (
        "asterisk-core-sounds-fr-g722",
        "asterisk-core-sounds-it-g722",
        "asterisk-core-sounds-ru-g722",
        "fillets-ng-data-cs",
        "fillets-ng-data-nl",
        "hedgewars-data",
    )
