"""Arithmetic that ends in the same bits on every x86-64 processor with AVX2."""

import os

COMMON = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE"}
"""For torch's own kernels, and for those of Intel's Math Kernel Library."""


def choose_common_kernels() -> None:
    """Let torch use kernels that do not depend on the processor, where the environment names none; before torch is loaded.

    Training a flow is chaotic: a last bit that differs after one step has moved the result visibly after a thousand, in
    float64 too. These kernels are up to three times slower for wide flows.
    """
    for name, value in COMMON.items():
        os.environ.setdefault(name, value)
