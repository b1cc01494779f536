"""From upstream checkpoints to a signed bundle of small models, and the numbers that prove it."""

import device as device  # silences what ONNX Runtime would report, before it is loaded
