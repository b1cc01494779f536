"""Times every network of a bundle in every runtime it can run in here, side by side, and picks the faster.

Each runtime with a number of threads is a lane. Lanes take turns within each round, so that other work of the
machine falls on all of them. Lengths vary as they do at a door: a runtime that plans anew for each length
pays for it here too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import numpy as np

from device.model_store.bundle import Bundle
from device.model_store.manifest import Entry
from device.model_store.pick import Notify, Pick, Timing, has_variant, identity, machine, served_by
from device.model_store.sessions import ONNX_FORMS, Array, Runtime, Session, SessionError, open_session
from device.settings import WordsEngine

FRAMES_PER_S = {"speaker": 100.0, "spoof": 62.5}
"""The networks that may run in either runtime, and how many frames their front ends give for a second."""
SECONDS = (3.5, 4.5)
ROUNDS = 15
HEATS = 3
HOPELESS = 4.0
"""After so many rounds, one that takes so many times as long as the fastest is out: it only costs time."""
THREADS = (1, 2)
DOOR_THREADS = 1
"""At the door these networks run beside the transcriber: what counts is how much of one core they take."""
WORDS_ROLE = "words"
WORDS_THREADS = 2
"""The words check is what a judgement waits for, and has both cores."""
WORDS_PHRASE = "seven two nine amber cloud"
MAX_STRAY = 0.1
"""Relative distance between two runtimes' outputs on noise, where they differ most; beyond, one is broken."""

SLOW_FORM = 1.5
"""After the same rounds, a form of the words check that takes so many times as long as the other is out."""

WORTH_A_RUNTIME = 0.75
"""A second runtime costs 50 MB: it must take at most this share of the first one's processor time."""

Trusted = Callable[[str, Runtime], bool]
"""Whether a form of a role's network answers rightly on this machine."""
Lane = tuple[Runtime, int]
Spent = tuple[float, float]
"""Milliseconds that one run took, and of processor time."""
L = TypeVar("L")
R = TypeVar("R")


def race(
    bundle: Bundle,
    notify: Notify = lambda text: None,
    progress: Callable[[float], None] = lambda done: None,
    rounds: int = ROUNDS,
    trusted: Trusted = lambda role, form: True,
) -> Pick:
    """The faster form of each role here, of those that are `trusted`, with the timings; `notify` hears
    what cannot run. Raises BundleError or SessionError when not even ONNX Runtime opens a network."""
    roles = [role for role in FRAMES_PER_S if has_variant(bundle, role)]
    runtimes: dict[str, Runtime] = {}
    timings: dict[str, dict[str, Timing]] = {}
    for number, role in enumerate(roles):
        lanes = _lanes(bundle, role, notify, trusted)
        inputs = _inputs(bundle.manifest.entry(role), FRAMES_PER_S[role], rounds + 1)
        found = _timed(lanes, inputs, notify)
        progress((number + 1) / len(roles))
        timings[role] = {f"{runtime}/{threads}": t for (runtime, threads), t in found.items()}
        # Processor time: what else the machine does right now must not choose.
        at_door = {runtime: t.cpu_ms for (runtime, threads), t in found.items() if threads == DOOR_THREADS}
        runtimes[role] = faster(at_door)
    words = race_words(bundle, rounds, trusted)
    if words:
        timings[WORDS_ROLE] = {f"{name}/{WORDS_THREADS}": timing for name, timing in words.items()}
        forms = {form: words[form].cpu_ms for form in ONNX_FORMS if form in words}
        if forms:
            runtimes[WORDS_ROLE] = min(forms, key=lambda form: forms[form])
    return Pick(machine(), identity(bundle), runtimes, timings)


def faster(cpu_ms: Mapping[Runtime, float]) -> Runtime:
    """The form that takes least processor time; a second runtime only where it is worth its memory."""
    best = min((form for form in ONNX_FORMS if form in cpu_ms), key=lambda form: cpu_ms[form])
    other = min(cpu_ms, key=lambda form: cpu_ms[form])
    return other if cpu_ms[other] <= WORTH_A_RUNTIME * cpu_ms[best] else best


def race_words(
    bundle: Bundle, rounds: int = ROUNDS, trusted: Trusted = lambda role, form: True
) -> dict[str, Timing]:
    """Every words model of the bundle, and each form of the usual one, on the same sounds, in turns. Only
    a form is picked: other models are not one network in two forms, and which judges is a setting."""
    # They load libraries that are not needed otherwise.
    from device.models.words.transcriber import ENGINE_ROLES, Transcriber

    there = {entry.role for entry in bundle.manifest.files}
    engines = {str(engine): engine for engine, role in ENGINE_ROLES.items() if role in there}
    forms = [form for form in ONNX_FORMS if WORDS_ROLE in there and trusted(WORDS_ROLE, form)]
    with ExitStack() as parts:
        opened: dict[str, Transcriber] = {}
        for name, engine in engines.items():
            if engine is not WordsEngine.ONNX:
                opened[name] = Transcriber.open(bundle, WORDS_THREADS, engine=engine)
        for form in forms:
            opened[str(form)] = Transcriber.open(bundle, WORDS_THREADS, runtime=form)
        for one in opened.values():
            parts.callback(one.close)
        times: dict[str, list[Spent]] = {name: [] for name in opened}
        running = list(opened)
        rng = np.random.default_rng(4)
        for number, seconds in enumerate(rng.uniform(*SECONDS, rounds + 1)):
            wave = rng.normal(0.0, 0.05, round(seconds * 16_000)).astype(np.float32)
            _round(number, {name: partial(opened[name].clues, wave, WORDS_PHRASE) for name in running}, times)
            if number == HEATS and forms:
                cpu_ms = {form: _median(times[form], 1) for form in forms}
                slow = {form for form in forms if cpu_ms[form] > SLOW_FORM * min(cpu_ms.values())}
                running = [name for name in running if name not in slow]
        return {name: _timing(times[name]) for name in opened}


def _lanes(bundle: Bundle, role: str, notify: Notify, trusted: Trusted) -> dict[Lane, Session]:
    lanes: dict[Lane, Session] = {}
    for runtime in Runtime:
        if runtime is not Runtime.ONNX and not trusted(role, runtime):
            continue  # it heard already why
        path = served_by(bundle, role, runtime)
        try:
            for threads in THREADS:
                lanes[runtime, threads] = open_session(path, runtime, threads)
        except SessionError as err:
            if runtime is Runtime.ONNX:
                raise
            notify(f"{role} cannot run in {runtime}: {err}")
    return lanes


def _inputs(entry: Entry, frames_per_s: float, count: int) -> Iterator[dict[str, Array]]:
    """Noise in the shape of speech of varying length: what a network computes does not change its time."""
    rng = np.random.default_rng(4)
    for seconds in rng.uniform(*SECONDS, count):
        lengths = {"batch": 1, "frames": round(seconds * frames_per_s)}
        yield {
            port.name: rng.standard_normal([lengths.get(str(n), n) for n in port.shape]).astype(np.float32)
            for port in entry.inputs
        }


def _timed(
    lanes: dict[Lane, Session],
    inputs: Iterator[dict[str, Array]],
    notify: Notify,
) -> dict[Lane, Timing]:
    times: dict[Lane, list[Spent]] = {lane: [] for lane in lanes}
    for number, one in enumerate(inputs):
        found = _round(number, {lane: partial(session.run, one) for lane, session in lanes.items()}, times)
        for lane in _strays({lane: answers[0] for lane, answers in found.items()}):
            notify(f"{lane[0]} answers differently on this machine and is left out")
            for broken in [other for other in lanes if other[0] is lane[0]]:
                del lanes[broken], times[broken]
        if number == HEATS:
            _drop_hopeless(lanes, times)
    return {lane: _timing(own) for lane, own in times.items()}


def _round(number: int, work: Mapping[L, Callable[[], R]], times: Mapping[L, list[Spent]]) -> dict[L, R]:
    """What every lane answers, another one first in each round; notes how long each took."""
    lanes = list(work)
    first = number % max(1, len(lanes))
    answers = {}
    for lane in lanes[first:] + lanes[:first]:
        started, worked_s = time.perf_counter(), time.process_time()
        answers[lane] = work[lane]()
        times[lane].append((1e3 * (time.perf_counter() - started), 1e3 * (time.process_time() - worked_s)))
    return answers


def _drop_hopeless(lanes: dict[Lane, Session], times: Mapping[Lane, list[Spent]]) -> None:
    """A runtime that is far behind keeps the times it has and runs no more; the reference stays."""
    medians = {lane: _median(own, 0) for lane, own in times.items()}
    fastest = min(medians.values())
    for lane, median in medians.items():
        if median > HOPELESS * fastest and lane != (Runtime.ONNX, DOOR_THREADS):
            del lanes[lane]


def _strays(answers: dict[Lane, Array]) -> list[Lane]:
    """The lanes whose answer is not ONNX Runtime's, one for each runtime."""
    exact = answers[Runtime.ONNX, DOOR_THREADS]
    limit = MAX_STRAY * float(np.linalg.norm(exact))
    return [
        lane
        for lane, answer in answers.items()
        if lane[1] == DOOR_THREADS and not float(np.linalg.norm(answer - exact)) <= limit
    ]


def _median(times: Sequence[Spent], which: int) -> float:
    return float(np.median([one[which] for one in times[1:]]))


def _timing(times: Sequence[Spent]) -> Timing:
    """Of all rounds but the first, which warms up."""
    spent, worked = np.array(times[1:]).T
    low, median, high = np.percentile(spent, [25.0, 50.0, 75.0])
    return Timing(*(round(float(figure), 2) for figure in (median, low, high, np.median(worked))))
