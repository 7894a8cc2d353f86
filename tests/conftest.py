"""A table, a flow and a network for the command line; how many examples hypothesis draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_runs import FEATURES, FIT, run, write_csv, write_network
from hypothesis import HealthCheck, settings

for name, examples in (("day", 20), ("nightly", 200)):
    # folders are written anew by each example, and a slow machine is no defect
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    settings.register_profile(name, max_examples=examples, deadline=None, suppress_health_check=checks)
settings.load_profile("day")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 200 rows, a flow fitted to it, and a network."""
    folder = tmp_path_factory.mktemp("cli")
    points = np.random.default_rng(0).normal([2, 1], [0.5, 0.25], (200, 2))
    rows = [[*point, "ab"[i % 2]] for i, point in enumerate(points.tolist())]
    write_csv(folder / "blob.csv", [[*FEATURES, "kind"], *rows])
    write_network(folder / "net.onnx")
    assert run("fit", folder / "blob.csv", "-o", folder / "flow.safetensors", *FIT).exit_code == 0
    return folder


@pytest.fixture
def asked(folder: Path) -> Callable[..., list[object]]:
    """The options that state a question, with a property or other files."""

    def options(prop: str, flow: Path | None = None, network: Path | None = None) -> list[object]:
        files = ["--flow", flow or folder / "flow.safetensors", "--network", network or folder / "net.onnx"]
        return [*files, "--property", prop]

    return options
