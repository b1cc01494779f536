"""Opens what is evaluated: the door's own checks from its bundle, and the float references beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.audio.utterance import Wave
from device.model_store import slots
from device.model_store.calibration import LLR_LIMIT, Calibration
from device.model_store.pick import tflite_variant
from device.model_store.sessions import OnnxSession, TfliteSession
from device.models import spoof
from device.models.resemblyzer import ROLE as PEER_ROLE
from device.models.resemblyzer import Resemblyzer
from device.models.second_speaker import NEXT, SecondSpeaker
from device.models.speaker import ROLE, SpeakerModel
from device.models.spoof.detector import SpoofDetector
from device.models.words.transcriber import Transcriber
from device.settings import WordsEngine
from quantize.evaluate.checks.scoring import Embedder
from quantize.evaluate.figures.metrics import Array
from quantize.evaluate.figures.named import FLOAT_MODEL, PEER_MODEL, PRODUCT_MODEL, TFLITE_MODEL
from sync.plain_file import plain_bytes

THREADS = 2
SPOOF_CODE = Path(spoof.__file__).parent


@dataclass(frozen=True, slots=True)
class SpeakerUnderTest:
    """One speaker model. `llr` maps cosines to LLRs, or is None where nobody calibrated the model."""

    version: str
    embedder: Embedder
    calibration: Calibration | None

    def embed(self, wave: Wave) -> npt.NDArray[np.float32]:
        """A unit vector; raises DeviceError when the speech cannot be judged."""
        return self.embedder.embed(wave)

    @property
    def llr(self) -> Callable[[Array], Array] | None:
        """Cosines of shape (n,) to the LLRs that the door would see."""
        if self.calibration is None:
            return None
        scale, offset = self.calibration.scale, self.calibration.offset
        return lambda scores: np.clip(scale * scores + offset, -LLR_LIMIT, LLR_LIMIT)

    def score_at(self, llr: float) -> float:
        """The cosine that has this LLR; raises ValueError without a calibration."""
        if self.calibration is None:
            raise ValueError(f"{self.version} has no calibration")
        return (llr - self.calibration.offset) / self.calibration.scale


def open_speaker(name: str, models: Path, reference_dir: Path) -> SpeakerUnderTest:
    """The door's own model ("int8"), its TFLite variant, the float network both come from, or Resemblyzer.

    Resemblyzer is the bundle's, in INT8, where it has one, and the float network elsewhere. References are
    built from their pinned sources when `reference_dir` does not have them yet.
    """
    bundle = slots.active(models)
    calibration = bundle.calibration(ROLE)
    if name == PRODUCT_MODEL:
        model = SpeakerModel.open(bundle, threads=THREADS)
        return SpeakerUnderTest(model.version, model, calibration)
    if name == TFLITE_MODEL:
        network = TfliteSession(tflite_variant(bundle, ROLE), THREADS, xnnpack=True)
        model = SpeakerModel(network, calibration, f"{bundle.version(ROLE)} in TFLite")
        return SpeakerUnderTest(model.version, model, calibration)
    if name == PEER_MODEL and any(entry.role == PEER_ROLE for entry in bundle.manifest.files):
        small = Resemblyzer.open(bundle, THREADS)
        return SpeakerUnderTest(small.version, small, None)
    # Float networks are large and only auditors ask for them: their code is loaded here, not before.
    from quantize import reference

    built = reference.build(reference_dir)
    if name == FLOAT_MODEL:
        session = OnnxSession(built.campplus, THREADS)
        return SpeakerUnderTest("campplus-float", SpeakerModel(session, calibration, "float"), calibration)
    peer = Resemblyzer(OnnxSession(built.resemblyzer, THREADS), "resemblyzer-0.1.4-float")
    return SpeakerUnderTest(peer.version, peer, None)


def open_successor(models: Path, reference_dir: Path) -> SpeakerUnderTest:
    """The speaker model that is to follow: the bundle's, or float Resemblyzer where it names none."""
    bundle = slots.active(models)
    found = SecondSpeaker.open(bundle, NEXT, THREADS)
    if found is None:
        return open_speaker(PEER_MODEL, models, reference_dir)
    return SpeakerUnderTest(found.version, found, bundle.calibration(NEXT))


def open_spoof(models: Path) -> SpoofDetector:
    """The door's liveness check."""
    return SpoofDetector.open(slots.active(models), threads=THREADS)


def spoof_code(folder: Path = SPOOF_CODE) -> str:
    """Names the code that measures liveness: what was kept of a run with other code is measured again."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".py", ".npz"))
    told = b"".join(hashlib.sha256(plain_bytes(path)).digest() for path in files)
    return hashlib.sha256(told).hexdigest()[:12]


def open_words(models: Path, engine: WordsEngine = WordsEngine.ONNX) -> Transcriber:
    """The door's words check, by the model that a unit may choose in its settings."""
    return Transcriber.open(slots.active(models), threads=THREADS, engine=engine)
