"""The same INT8 networks for the second runtime: from our ONNX graphs to TFLite files, without TensorFlow."""
