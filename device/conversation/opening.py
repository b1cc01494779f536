"""Opens the segmentation and the speaker model of the unit's bundle, for conversations."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from device.model_store import slots
from device.model_store.bundle import Bundle
from device.model_store.calibration import Calibration
from device.model_store.minimum_versions import MinimumVersions
from device.model_store.pick import remembered
from device.models import self_test
from device.models.segmentation import SegmentationModel
from device.models.segmentation_answers import open_segmentation
from device.models.speaker import ROLE, SpeakerModel

_LOG = logging.getLogger("ostiary")


@dataclass(frozen=True, slots=True)
class ConversationModels:
    """Both networks, and what a cosine of the second means."""

    segmentation: SegmentationModel
    speaker: SpeakerModel
    calibration: Calibration

    @property
    def versions(self) -> tuple[str, ...]:
        return self.segmentation.version, self.speaker.version


def open_models(models: Path, memory: Path, minimum: MinimumVersions | None = None) -> ConversationModels:
    """From the verified bundle in `models`, none of its models below `minimum`; `memory` keeps the pass of
    the self-test. Raises BundleError where there is no segmentation, SelfTestError, SessionError."""

    def on(bundle: Bundle) -> ConversationModels:
        pick = remembered(models, bundle, _LOG.warning)
        forms = self_test.ensured(bundle, pick, memory, _LOG.warning)
        segmentation = open_segmentation(bundle, notify=_LOG.warning)
        speaker = SpeakerModel.open(bundle, 1, forms[ROLE], _LOG.warning)
        return ConversationModels(segmentation, speaker, bundle.calibration(ROLE))

    return slots.steadily(models, on, _LOG.warning, minimum)
