"""The words check: Whisper in ONNX Runtime or whisper.cpp, and what it needs."""
