"""The words check in other languages than English: Whisper base, told to hear them, with maps of its own."""

from __future__ import annotations

from device.evidence.vocabulary import Language
from device.model_store.calibration import Calibration
from device.models.words.transcriber import Transcriber
from device.models.words.whisper_onnx import OnnxWhisper

FITTED_ON = "whisper-base-int8-ebd33144"
"""The version of the model whose scores the maps below are for; another hears no other language."""
CALIBRATIONS = {Language.GERMAN: Calibration(0.6534, -0.0988)}
"""From the score of the clues (`Fusion`) to an LLR: `python -m research.fits.german fit`, on four voices."""


def transcriber(model: OnnxWhisper, version: str, language: Language) -> Transcriber:
    """The words check in `language` by a model that is open already. Raises DeviceError where it knows none
    such."""
    calibration = CALIBRATIONS[language]
    return Transcriber(model.hearing(language), version=version, calibration=calibration, language=language)
