"""What each ONNX operator adds to a graph."""
