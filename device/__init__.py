"""The door unit: hears one attempt, judges it, decides, moves the strike. Needs no network."""

import os

# ONNX Runtime looks up a collector's name and writes a device id, unless it is told not to before it is
# loaded. Here, because every import of this package and of `quantize` passes here, and children inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
