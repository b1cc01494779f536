"""The door unit: hears one attempt, judges it, decides, moves the strike. Needs no network."""

import os

import sync as sync  # takes what OpenSSL would be told from the environment

# ONNX Runtime looks up a collector's name and writes a device id, unless this is set before it is loaded.
# Every import of this package and of `quantize` passes here, and child processes inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# NumPy's own threads spin on the cores that the checks work on; one is enough for its small products. This
# has to be set before NumPy is loaded; a value that was set before counts.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
