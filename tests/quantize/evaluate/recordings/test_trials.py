from __future__ import annotations

from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.trials import NEAR_MISSES, phrase_trials, speaker_plan


def recording(path: str, speaker: str = "", label: str = "bonafide", text: str = "") -> Recording:
    return Recording(path, label, speaker, "tts" if label == "spoof" else "", text, "", "")


def files_of(speaker: str, count: int, label: str = "bonafide") -> list[Recording]:
    return [recording(f"set/{speaker}/{i}.flac", speaker, label) for i in reversed(range(count))]


def test_first_three_files_by_path_enrol_and_the_rest_probe() -> None:
    plan = speaker_plan(files_of("ann", 5) + files_of("bob", 6))
    assert [r.path for r in plan.enrolments["ann"]] == [f"set/ann/{i}.flac" for i in range(3)]
    assert [r.path for r in plan.probes] == [
        *(f"set/ann/{i}.flac" for i in (3, 4)),
        *(f"set/bob/{i}.flac" for i in (3, 4, 5)),
    ]


def test_a_speaker_with_four_files_takes_no_part() -> None:
    assert list(speaker_plan(files_of("ann", 4) + files_of("bob", 5)).enrolments) == ["bob"]


def test_spoofs_of_a_speaker_neither_enrol_nor_probe() -> None:
    plan = speaker_plan(files_of("ann", 5) + files_of("zoe", 9, "spoof"))
    assert list(plan.enrolments) == ["ann"]
    assert all(r.label == "bonafide" for r in plan.recordings())


def test_files_without_a_speaker_are_not_one_speaker() -> None:
    assert speaker_plan(files_of("", 40)).enrolments == {}


def test_wrong_phrase_comes_from_the_same_folder_and_is_as_long_as_possible() -> None:
    trials = phrase_trials(
        [
            recording("a/1.flac", text="ONE TWO"),
            recording("a/2.flac", text="THREE FOUR"),
            recording("a/3.flac", text="FIVE SIX SEVEN EIGHT"),
            recording("b/1.flac", text="NINE TEN"),
            recording("b/2.flac", text="GO"),
        ]
    )
    wrong = {trial.recording.path: trial.wrong for trial in trials}
    assert wrong == {
        "a/1.flac": "THREE FOUR",
        "a/2.flac": "ONE TWO",
        "a/3.flac": wrong["a/3.flac"],
        "b/1.flac": "GO",
        "b/2.flac": "NINE TEN",
    }
    assert wrong["a/3.flac"] in ("ONE TWO", "THREE FOUR")


def test_a_repeated_text_is_never_its_own_wrong_phrase() -> None:
    trials = phrase_trials([recording(f"a/{i}.flac", text=t) for i, t in enumerate(["YES", "YES", "NO"])])
    assert [trial.wrong for trial in trials] == ["NO", "NO", "YES"]


def test_a_folder_with_one_text_gives_no_phrase_trial() -> None:
    assert phrase_trials([recording("a/1.flac", text="GO"), recording("a/2.flac", text="GO")]) == []


def test_phrase_trials_do_not_depend_on_the_order_of_the_manifest() -> None:
    recordings = [recording(f"a/{i}.flac", text=f"WORD{i} WORD") for i in range(9)]
    forward = {t.recording.path: t.wrong for t in phrase_trials(recordings)}
    assert {t.recording.path: t.wrong for t in phrase_trials(recordings[::-1])} == forward


def test_a_near_miss_differs_in_one_word() -> None:
    trials = phrase_trials([recording(f"a/{i}.flac", text=t) for i, t in enumerate(["ONE TWO SIX", "GO ON"])])
    for trial in trials:
        assert len(trial.near) == NEAR_MISSES
        for near in trial.near:
            words = zip(near.lower().split(), trial.right.lower().split(), strict=True)
            assert sum(a != b for a, b in words) == 1


def test_further_wrong_phrases_come_from_the_folder_first_and_never_say_the_same() -> None:
    texts = {"a": ["FIVE", "5", "SIX", "SEVEN", "EIGHT"], "b": ["GO", "STOP"]}
    recordings = [recording(f"{f}/{i}.flac", text=t) for f, them in texts.items() for i, t in enumerate(them)]
    trial = next(t for t in phrase_trials(recordings, pairings=4) if t.right == "FIVE")
    said = {trial.wrong, *trial.others}
    assert "5" not in trial.others
    assert len(trial.others) == 4
    assert {"SIX", "SEVEN", "EIGHT"} - {trial.wrong} <= said
    assert said & {"GO", "STOP"}
