"""Checks that this processor computes what it must: known recordings, known answers, a few seconds.

A bundle is the same bytes everywhere; what differs is how a processor multiplies. So every unit asks its
models what the release asked, once for each combination of processor, runtimes and bundle. Where a form's
answers stray the next is tried: what was picked, exact sums of eight bits, float products of the same
integers. Where all stray, the unit does not serve.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.audio.utterance import Wave, to_wave
from device.errors import DeviceError
from device.model_store.answers import CHECKS, MAX_ANSWERS_BYTES, ROLE, Answers
from device.model_store.bundle import Bundle, read_limited
from device.model_store.pick import Notify, Pick, has_variant, identity, machine
from device.model_store.processor import processor_class
from device.model_store.sessions import ONNX_FORMS, Runtime
from device.models.speaker import SpeakerModel
from device.models.spoof.detector import SpoofDetector
from device.models.words.transcriber import Transcriber
from sync.durable import replace_file
from sync.errors import MALFORMED
from sync.plain_file import plain_bytes
from sync.plain_words import why

PACKAGE = "pocketsphinx-testdata"
RECORDINGS = Path("/usr/share/pocketsphinx/test/data")
MEMORY_NAME = "self-test.json"
MAX_MEMORY_BYTES = 16 * 1024
NETWORKS = {"words": "words", "voice": "speaker", "live": "spoof"}
"""The role whose form a check uses."""
THREADS = {"words": 2, "voice": 1, "live": 1}
LONGEST_S = 30.0


class SelfTestError(DeviceError):
    """This machine does not compute what it must, or it cannot be known. The unit does not serve."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check in one form: the largest difference of an LLR from the release's answers."""

    check: str
    form: Runtime
    largest_difference: float
    """In LLR; infinite when the check failed."""
    tolerance: float
    answers: int
    trouble: str = ""

    @property
    def passed(self) -> bool:
        return self.largest_difference <= self.tolerance


def recordings_of(recordings: Mapping[str, str], folder: Path = RECORDINGS) -> dict[str, Wave]:
    """Every one of `recordings` (SHA-256 by name), mono at 16 kHz. Raises SelfTestError where one is
    missing or another one."""
    found: dict[str, Wave] = {}
    for name, sha256 in recordings.items():
        try:
            data = plain_bytes(folder / name)
        except OSError as err:
            raise SelfTestError(
                f"the self-test's recordings are missing; run: sudo apt-get install {PACKAGE}"
            ) from err
        if hashlib.sha256(data).hexdigest() != sha256:
            raise SelfTestError(f"{name} is not the self-test's recording; reinstall {PACKAGE}")
        raw = name.endswith(".raw")
        samples = np.frombuffer(data, "<i2") if raw else read_recording(data, FileLimits(max_s=LONGEST_S))
        found[name] = to_wave(samples)
    return found


def answers_of(bundle: Bundle) -> Answers:
    """What the bundle's own files must answer. Raises BundleError, SelfTestError when it is about others."""
    answers = Answers.from_bytes(read_limited(bundle.path(ROLE), MAX_ANSWERS_BYTES))
    for roles in CHECKS.values():
        for role in roles:
            if answers.files.get(role) != bundle.manifest.entry(role).sha256:
                raise SelfTestError(
                    f"the bundle's self-test is not about its {role}; run `ostiary models build`"
                )
    return answers


def examine(
    bundle: Bundle, answers: Answers, waves: Mapping[str, Wave], check: str, form: Runtime
) -> Finding:
    """One check in one form; a form that cannot run has failed."""
    try:
        pairs = [*_ASK[check](bundle, answers, waves, form)]
        largest = max(abs(found - wanted) for found, wanted in pairs)
        if not np.isfinite(largest):
            largest = float("inf")
        return Finding(check, form, float(largest), answers.tolerance[check], len(pairs))
    except DeviceError as err:
        return Finding(check, form, float("inf"), answers.tolerance[check], 0, str(err))


def _words(
    bundle: Bundle, answers: Answers, waves: Mapping[str, Wave], form: Runtime
) -> Iterator[tuple[float, float]]:
    with closing(Transcriber.open(bundle, THREADS["words"], runtime=form)) as words:
        for name in dict.fromkeys(one.recording for one in answers.words):
            asked = [one for one in answers.words if one.recording == name]
            scores = words.scores(waves[name], [one.phrase for one in asked])
            yield from ((score.llr, one.llr) for score, one in zip(scores, asked, strict=True))


def _voice(
    bundle: Bundle, answers: Answers, waves: Mapping[str, Wave], form: Runtime
) -> Iterator[tuple[float, float]]:
    told: list[str] = []
    speaker = SpeakerModel.open(bundle, THREADS["voice"], form, told.append)
    _same_form(told)
    names = {name for one in answers.voice for name in (*one.enrolled, one.recording)}
    embedded = {name: speaker.embed(waves[name]) for name in names}
    for one in answers.voice:
        template = speaker.template([embedded[name] for name in one.enrolled])
        yield speaker.llr(embedded[one.recording], template), one.llr


def _live(
    bundle: Bundle, answers: Answers, waves: Mapping[str, Wave], form: Runtime
) -> Iterator[tuple[float, float]]:
    told: list[str] = []
    spoof = SpoofDetector.open(bundle, THREADS["live"], form, told.append)
    _same_form(told)
    for one in answers.live:
        found = live_llrs(spoof, waves[one.recording])
        yield from ((found[kind], wanted) for kind, wanted in one.llrs.items())


def live_llrs(spoof: SpoofDetector, wave: Wave) -> dict[str, float]:
    """The mixture and each kind's LLR."""
    evidence = spoof.evidence(wave)
    kinds = {name: value for name, value in evidence.kinds().items() if name.endswith("_llr")}
    return {"llr": evidence.llr, **kinds}


def _same_form(told: list[str]) -> None:
    """A network that opened in another form than it was asked for has not shown anything about that form."""
    if told:
        raise SelfTestError(told[0])


_Ask = Callable[[Bundle, Answers, Mapping[str, Wave], Runtime], Iterator[tuple[float, float]]]
_ASK: dict[str, _Ask] = {"words": _words, "voice": _voice, "live": _live}


def forms_to_try(bundle: Bundle, check: str, picked: Runtime) -> list[Runtime]:
    """What was picked first, then what is exact, in the order of trust."""
    return [form for form in dict.fromkeys((picked, *ONNX_FORMS)) if can_run(bundle, check, form)]


def can_run(bundle: Bundle, check: str, form: Runtime) -> bool:
    return form in ONNX_FORMS or (check != "words" and has_variant(bundle, NETWORKS[check]))


def run(bundle: Bundle, pick: Pick, folder: Path = RECORDINGS, *, every_form: bool = False) -> list[Finding]:
    """Each check in one form after the other until one passes, or in `every_form`; the form in use first.
    Raises BundleError, SelfTestError."""
    answers = answers_of(bundle)
    waves = recordings_of(answers.recordings, folder)
    findings: list[Finding] = []
    for check in CHECKS:
        forms = forms_to_try(bundle, check, pick.runtime(NETWORKS[check]))
        if every_form:
            forms += [form for form in Runtime if form not in forms and can_run(bundle, check, form)]
        for form in forms:
            findings.append(examine(bundle, answers, waves, check, form))
            if findings[-1].passed and not every_form:
                break
    return findings


def trusting(bundle: Bundle, notify: Notify, folder: Path = RECORDINGS) -> Callable[[str, Runtime], bool]:
    """Tells of a role and a form whether it passes here, testing it then; `notify` hears of each that
    strays. Raises BundleError, SelfTestError."""
    answers = answers_of(bundle)
    waves = recordings_of(answers.recordings, folder)
    checks = {role: check for check, role in NETWORKS.items()}

    def trusted(role: str, form: Runtime) -> bool:
        found = examine(bundle, answers, waves, checks[role], form)
        if not found.passed:
            notify(f"{role} strays in {form} on this machine and is left out ({told(found)})")
        return found.passed

    return trusted


def told(finding: Finding) -> str:
    """What came of one check, in words."""
    return finding.trouble or (
        f"LLR differs by {finding.largest_difference:.2f} at most, {finding.tolerance:g} is allowed"
    )


def chosen(findings: Iterable[Finding]) -> dict[str, Runtime]:
    """By role, the first form that passed. Raises SelfTestError for a check that passed in none."""
    best: dict[str, Finding] = {}
    for one in findings:
        if one.check not in best or (one.passed and not best[one.check].passed):
            best[one.check] = one
    for one in best.values():
        if not one.passed:
            raise SelfTestError(
                f"self-test: {one.check} cannot be trusted on this machine ({told(one)}); run `ostiary "
                "models build`, and exchange the unit when `ostiary models self-test` says the same"
            )
    return {NETWORKS[check]: one.form for check, one in best.items()}


def ensured(
    bundle: Bundle, pick: Pick, memory: Path, notify: Notify, folder: Path = RECORDINGS
) -> dict[str, Runtime]:
    """The form of each network that answers rightly here; tested now, unless `memory` keeps a pass for
    this machine, its runtimes and this bundle. Raises BundleError, SelfTestError."""
    key = _key(bundle, pick)
    known = _remembered(memory, key)
    if known is not None:
        return known
    findings = run(bundle, pick, folder)
    forms = chosen(findings)
    for one in findings:
        if not one.passed:
            notify(
                f"self-test: {one.check} strays in {one.form}; {forms[NETWORKS[one.check]]} serves instead"
            )
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        replace_file(memory, json.dumps({**key, "forms": forms}, indent=1, sort_keys=True).encode() + b"\n")
    except OSError as err:
        notify(f"self-test: passed, but {memory.name} cannot be written ({why(err)}); it runs at every start")
    return forms


def _key(bundle: Bundle, pick: Pick) -> dict[str, Any]:
    wanted = {role: str(pick.runtime(role)) for role in NETWORKS.values()}
    return {
        "machine": machine(),
        "processor": processor_class(),
        "bundle": identity(bundle),
        "wanted": wanted,
    }


def _remembered(memory: Path, key: Mapping[str, Any]) -> dict[str, Runtime] | None:
    """The forms that passed under the same `key`; None for anything else: then the test is made again."""
    try:
        document = json.loads(read_limited(memory, MAX_MEMORY_BYTES))
        forms = {str(role): Runtime(form) for role, form in document.pop("forms").items()}
        return forms if document == dict(key) and set(forms) == set(NETWORKS.values()) else None
    except (DeviceError, *MALFORMED):
        return None
