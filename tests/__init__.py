"""Tests of what the product does, with real components."""

import device as device  # silences what ONNX Runtime would report, before it is loaded
