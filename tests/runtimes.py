"""Which packages with TFLite's interpreter the lock installs on this Python."""

from __future__ import annotations

import sys

from device.model_store.sessions import TFLITE_PACKAGES

# tflite-runtime, the second, has no wheel past Python 3.11.
INSTALLED_TFLITE = TFLITE_PACKAGES if sys.version_info < (3, 12) else TFLITE_PACKAGES[:1]
