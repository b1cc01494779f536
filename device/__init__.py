"""The door unit: hears one attempt, judges it, decides, moves the strike. Needs no network."""

import os

# ONNX Runtime looks up a collector's name and writes a device id, unless it is told not to before it is
# loaded. Here, because every import of this package and of `quantize` passes here, and children inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# NumPy's own threads spin on the cores that the checks work on; one is enough for its small products. Said
# before NumPy is loaded, or it is too late; a value that is set counts.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
