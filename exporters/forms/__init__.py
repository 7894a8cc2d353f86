"""Forms of a graph that outside tools accept: chains of Gemm and ReLU, float32 numbers."""
