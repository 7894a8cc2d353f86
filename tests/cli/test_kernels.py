"""The demo's figures do not depend on the processor: training under kernels of another one ends in the same bits."""

import os
import subprocess
import sys

SCRIPT = """
from verify.cli.kernels import choose_common_kernels
choose_common_kernels()
import torch
from veriflow import TrainingOptions, USFlow, fit
torch.manual_seed(0)
flow = USFlow(5, blocks=2, hidden=8)
fit(flow, torch.randn(200, 5), TrainingOptions(steps=30, validate_every=30), progress=False)
print([float(value).hex() for parameter in flow.parameters() for value in parameter.flatten()])
"""
OLD = {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "OPENBLAS_CORETYPE": "NEHALEM", "OMP_NUM_THREADS": "2"}


def test_training_ends_in_the_same_bits_on_another_processor():
    plain = {name: value for name, value in os.environ.items() if name not in ("ATEN_CPU_CAPABILITY", "MKL_CBWR", *OLD)}
    ends = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300, check=True
        ).stdout
        for environment in (plain, plain | OLD)
    ]
    assert ends[0] == ends[1]
