"""Is it a live human throat? Evidence from our own network, calibrated."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ
from device.errors import DeviceError
from device.model_store.bundle import Bundle
from device.model_store.calibration import LLR_LIMIT, Calibration
from device.model_store.pick import Notify, open_role
from device.model_store.sessions import Runtime, Session
from device.models.spoof.envelopes import MAX_HEAD_BYTES, EnvelopeHead, envelopes
from device.models.spoof.features import WINDOW_SAMPLES, spoof_features
from device.models.spoof.frame_rates import FORM, frame_rates
from device.models.spoof.norms import BonaFideNorms
from device.models.spoof.prints import seen, shipped
from sync.errors import MALFORMED
from sync.plain_file import NETWORK_BYTES, plain_bytes
from sync.plain_words import malformed, why

ROLE, CARD_ROLE, ENVELOPES_ROLE = "spoof", "spoof-card", "spoof-envelopes"
INPUT = "features"
SEGMENT_SAMPLES = 6 * SAMPLE_RATE_HZ
MIN_SAMPLES = SAMPLE_RATE_HZ // 2
MAX_CARD_BYTES = 1 << 20
FIRST_FORM = 1
"""Of a card that names none."""


@dataclass(frozen=True, slots=True)
class SpoofEvidence:
    """LLRs of a live human against each attack, and against any of them with equal weight."""

    synthetic_llr: float
    """Against synthesis that sounds like what the network was taught."""
    envelopes_llr: float
    """Against classical synthesisers and vocoders, known by how bands move together within milliseconds."""
    cadence_llr: float
    """Against synthesis that keeps the beat of its frames, taught or not."""
    loudspeaker_llr: float
    llr: float
    frame_rate_hz: float
    """The rate that stands out most, or one that shares multiples; it means something below LLR 0."""
    print_values: bytes = field(default=b"", repr=False)
    """How this attempt compares with others (`prints.py`)."""

    def kinds(self) -> dict[str, float]:
        """All but the mixture and the print, by name."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("llr", "print_values")}


@dataclass(frozen=True, slots=True)
class SpoofScores:
    """What was measured of one stretch of speech, before any calibration; higher speaks for a person."""

    synthetic: float
    envelopes: float
    frame_rate: float
    loudspeaker: float
    frame_rate_hz: float
    print_values: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class SpoofCard:
    """What stands beside the network in `spoof.json`: what it names, and the calibration of each kind."""

    version: str
    sha256: str
    envelopes_sha256: str
    synthetic: Calibration
    envelopes: Calibration
    frame_rate: Calibration
    loudspeaker: Calibration
    norms: BonaFideNorms
    operating_points: dict[str, float]
    """LLR thresholds by name, `bpcer_1` for one bona fide in a hundred refused on the calibration part."""

    @classmethod
    def from_bytes(cls, data: bytes) -> SpoofCard:
        """Raises DeviceError when a field is missing or is not what it must be."""
        if len(data) > MAX_CARD_BYTES:
            raise DeviceError("the spoof detector's card is too large; run `ostiary models build`")
        try:
            fields = json.loads(data)
            if int(fields.get("form", FIRST_FORM)) != FORM:
                raise DeviceError(
                    "the spoof detector's card was fitted for another version of this program; "
                    "run `ostiary models build`"
                )
            heads = fields["calibration"]
            points = {str(name): float(value) for name, value in fields["operating_points"].items()}
            if not all(math.isfinite(value) for value in points.values()):
                raise ValueError("an operating point is not finite")
            return cls(
                version=str(fields["version"]),
                sha256=str(fields["sha256"]),
                envelopes_sha256=str(fields["envelopes_sha256"]),
                synthetic=_calibration(heads["synthetic"]),
                envelopes=_calibration(heads["envelopes"]),
                frame_rate=_calibration(heads["cadence"]),
                loudspeaker=_calibration(heads["loudspeaker"]),
                norms=_norms(fields["null"]),
                operating_points=points,
            )
        except MALFORMED as err:
            raise DeviceError(
                f"the spoof detector's card is damaged ({malformed(err)}); run `ostiary models build`"
            ) from err


def _calibration(fields: dict[str, Any]) -> Calibration:
    return Calibration(scale=float(fields["scale"]), offset=float(fields["offset"]))


def _norms(fields: dict[str, Any]) -> BonaFideNorms:
    return BonaFideNorms(**{part: np.array(fields[part], np.float64) for part in BonaFideNorms.__slots__})


def checked_network(path: Path, card: SpoofCard) -> bytes:
    """The network's bytes, when they are those the card names; raises DeviceError otherwise."""
    network = _read(path)
    if hashlib.sha256(network).hexdigest() != card.sha256:
        raise DeviceError(f"{path.name} is not the network its card names; run `ostiary models build`")
    return network


def checked_head(path: Path, card: SpoofCard) -> EnvelopeHead:
    """The envelopes' head, when it is the one the card names; raises DeviceError otherwise."""
    head = _read(path, MAX_HEAD_BYTES)
    if hashlib.sha256(head).hexdigest() != card.envelopes_sha256:
        raise DeviceError(f"{path.name} is not the head its card names; run `ostiary models build`")
    try:
        return EnvelopeHead.from_bytes(head)
    except ValueError as err:
        raise DeviceError(f"{path.name} is damaged ({malformed(err)}); run `ostiary models build`") from err


def _read(path: Path, at_most: int = NETWORK_BYTES) -> bytes:
    try:
        return plain_bytes(path, at_most)
    except OSError as err:
        missing = isinstance(err, FileNotFoundError)
        remedy = "run `ostiary models build`" if missing else "`ostiary doctor` says whether it is whole"
        raise DeviceError(f"cannot read {path.name} ({why(err)}); {remedy}") from err


class SpoofDetector:
    """Scores speech against two attacks: made by a machine (known in three ways), played by a loudspeaker."""

    def __init__(self, session: Session, card: SpoofCard, head: EnvelopeHead) -> None:
        self._session = session
        self._card = card
        self._head = head
        self._printer = shipped()
        self.version = card.version

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        threads: int = 1,
        runtime: Runtime = Runtime.ONNX,
        notify: Notify = lambda text: None,
    ) -> SpoofDetector:
        """From a verified bundle; raises BundleError, SessionError or DeviceError."""
        card = SpoofCard.from_bytes(_read(bundle.path(CARD_ROLE), MAX_CARD_BYTES))
        checked_network(bundle.path(ROLE), card)
        head = checked_head(bundle.path(ENVELOPES_ROLE), card)
        return cls(open_role(bundle, ROLE, threads, runtime, notify), card, head)

    @property
    def card(self) -> SpoofCard:
        return self._card

    @property
    def operating_points(self) -> dict[str, float]:
        """LLR thresholds by name; rules may name one (`live = "bpcer_3"`)."""
        return self._card.operating_points

    def llr(self, wave: npt.NDArray[np.float32]) -> float:
        """Natural-log LLR of a live human against an attack, for speech (n,) at 16 kHz; positive is live.

        Raises DeviceError for less than half a second, silence, or a sample that is not a number.
        """
        return self.evidence(wave).llr

    def evidence(self, wave: npt.NDArray[np.float32]) -> SpoofEvidence:
        """The attacks one by one. Speech longer than six seconds is as live as its least live stretch."""
        return self.weighed(self.scores(wave))

    def scores(self, wave: npt.NDArray[np.float32]) -> list[SpoofScores]:
        """What is measured of each stretch of six seconds at most. Raises as `llr` does."""
        _check(wave)
        pieces = -(-len(wave) // SEGMENT_SAMPLES)
        return [self._measured(piece) for piece in np.array_split(wave, pieces)]

    def weighed(self, scores: Sequence[SpoofScores]) -> SpoofEvidence:
        """The LLRs of the least live stretch."""
        return min((self._weighed(one) for one in scores), key=lambda one: one.llr)

    def _measured(self, wave: npt.NDArray[np.float32]) -> SpoofScores:
        features = spoof_features(wave)
        (logits,) = self._session.run({INPUT: features[None]})
        if logits.shape != (1, 2) or not np.isfinite(logits).all():
            raise DeviceError("the spoof detector answered with something that is not a score")
        statistics = envelopes(wave)
        heard = self._card.norms.compare(frame_rates(wave), len(wave) / SAMPLE_RATE_HZ)
        return SpoofScores(
            synthetic=-float(logits[0, 0]),
            envelopes=self._head.score(statistics),
            frame_rate=heard.score,
            loudspeaker=-float(logits[0, 1]),
            frame_rate_hz=heard.rate_hz,
            print_values=self._printer(seen(wave, statistics)),
        )

    def _weighed(self, found: SpoofScores) -> SpoofEvidence:
        card = self._card
        kinds = (
            card.synthetic.llr(found.synthetic),
            card.envelopes.llr(found.envelopes),
            card.frame_rate.llr(found.frame_rate),
            card.loudspeaker.llr(found.loudspeaker),
        )
        return SpoofEvidence(*kinds, against_any(*kinds), found.frame_rate_hz, found.print_values)


def against_any(*llrs: float) -> float:
    """The LLR against an attack that is any one of these with equal prior: -log(mean(exp(-llr)))."""
    mixed = -math.log(sum(math.exp(-llr) for llr in llrs) / len(llrs))
    return max(-LLR_LIMIT, min(LLR_LIMIT, mixed))


def _check(wave: npt.NDArray[np.float32]) -> None:
    if wave.ndim != 1 or len(wave) < max(MIN_SAMPLES, WINDOW_SAMPLES):
        raise DeviceError("there is too little speech to tell whether it is live")
    if not np.isfinite(wave).all():
        raise DeviceError("the samples hold something that is not a number")
    if float(np.abs(wave - wave.mean()).max()) < 1e-4:
        raise DeviceError("there is only silence")
