"""Signals: what was found out by then is reported, and nothing is left running."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from small_queries import random_network

from exporters import graph_to_onnx
from veriflow import Ball, USFlow, classified_as, flow_query, network_query, save_flow
from veriflow.files.sealed import load_tensors
from verify import Answers, InterruptedSearch, Outcome, Verdict, certify, replay, verify_all
from verify.bab.checkpoint import KIND

PATIENCE = 120.0  # seconds that no test needs
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks and flows, and a property that no engine decides in time."""
    path = tmp_path_factory.mktemp("interrupts")
    network = random_network(np.random.default_rng(0), (20, 64, 64, 64, 2))
    small = random_network(np.random.default_rng(0), (4, 64, 64, 64, 2))
    for dim, tested in ((4, small), (20, network)):
        save_flow(USFlow(dim, blocks=0), path / f"flow{dim}.safetensors")
        (path / f"net{dim}.onnx").write_bytes(graph_to_onnx(tested))
    declared = "\n".join(
        [f"(declare-const X_{i} Real)" for i in range(20)] + [f"(declare-const Y_{i} Real)" for i in range(2)]
    )
    box = " ".join(f"(<= -1.0 X_{i} 1.0)" for i in range(20))
    (path / "hard.vnnlib").write_text(f"{declared}\n(assert (and {box} (>= Y_1 (+ Y_0 2.0))))")
    return path


class Run:
    """A command of veriflow in a process of its own, and all processes below it that were ever seen."""

    def __init__(self, folder: Path, scratch: Path, *words: object) -> None:
        environment = os.environ | {"TMPDIR": str(scratch)}
        command = [sys.executable, "-m", "veriflow", *map(str, words)]
        pipe = subprocess.PIPE
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where tests run in the background of a shell
        try:
            self.process = subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=environment)
        finally:
            signal.signal(signal.SIGINT, before)
        self.seen: dict[int, str] = {}

    def below(self) -> dict[int, str]:
        """Command lines of the processes below, by number."""
        rows: dict[int, int] = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                rows[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        found: dict[int, str] = {}
        while grown := {pid for pid, parent in rows.items() if parent in {self.process.pid, *found}} - set(found):
            for pid in grown:
                found[pid] = ""
                with suppress(OSError):
                    found[pid] = (Path("/proc") / str(pid) / "cmdline").read_text().replace("\0", " ")
        self.seen |= found
        return found

    def ended(self, number: int) -> tuple[int, str, str]:
        """Exit code, output and errors after a signal."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output, errors


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def started(*words: object) -> Run:
        runs.append(Run(folder, tmp_path, *words))
        return runs[-1]

    yield started
    for one in runs:
        one.process.kill()
        one.process.communicate()


ASK = ("verify", "--network", "net20.onnx", "--property", "hard.vnnlib", "--timeout", 600, "--json")


@NEEDS_PROC
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_engines_in_processes_end_with_their_owner(run: Callable[..., Run], tmp_path: Path, number: int) -> None:
    asked = run(*ASK, "--with", "smt,bab")
    until(lambda: any("smt_worker" in words for words in asked.below().values()), "no solver was started")
    code, output, errors = asked.ended(number)
    until(lambda: not any(map(alive, asked.seen)), "a process outlived its owner")
    assert len(asked.seen) >= 4
    if number == signal.SIGKILL:
        assert code == -number
        return
    assert code == 130
    found = json.loads(output)
    assert found["outcome"] == "unknown"
    assert [one["outcome"] for one in found["regions"][0]["answers"]] == ["unknown", "unknown"]
    assert "interrupted" in found["reason"]
    assert errors.startswith("interrupted: ")
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


TOOL = """#!{python}
import os, sys, time
if sys.argv[1] == "supports":
    sys.exit(print("2.0"))
for _ in range(2):
    if os.fork():
        break
    os.setsid()
open({pids!r}, "a").write(f"{{os.getpid()}}\\n")
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands daemons on to whoever started their parents")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_daemons_of_tools_end_with_their_owner(run: Callable[..., Run], tmp_path: Path, number: int) -> None:
    program, pids = tmp_path / "tool", tmp_path / "pids"
    program.write_text(TOOL.format(python=sys.executable, pids=str(pids)))
    program.chmod(0o755)
    asked = run(*ASK, "--with", f"vnnlib2:{program}")
    until(lambda: pids.exists() and len(pids.read_text().splitlines()) == 3, "no tool was started")
    asked.ended(number)
    until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()), "a daemon outlived its owner")


@pytest.mark.parametrize(("dim", "code"), [(4, 1), (20, 130)], ids=["refuted", "open"])
def test_a_certificate_is_reported_at_a_signal(run: Callable[..., Run], tmp_path: Path, dim: int, code: int) -> None:
    file = tmp_path / "search"
    words = ("certify", "--flow", f"flow{dim}.safetensors", "--network", f"net{dim}.onnx", "--gap", 1e-9)
    words += (
        "--property",
        f"y[0] >= y[1] - {0.5 if dim == 4 else 2}",
        "--timeout",
        600,
        "--json",
        "--checkpoint",
        file,
    )
    asked = run(*words)

    def is_begun() -> bool:
        found = load_tensors(file, KIND)[1] if file.exists() else {}
        proved = [float(value) for name, value in found.items() if name.endswith("/proved")]
        return any(proved) if dim == 4 else bool(proved)

    until(is_begun, "nothing was found out")
    ending = asked.ended(signal.SIGTERM)
    assert ending[0] == code
    found = json.loads(ending[1])
    assert found["proved_radius"] > 0 or dim == 20
    assert (found["witness"] is not None) == (dim == 4)
    assert (found["complete"], found["reason"]) == (False, "interrupted")
    assert ending[2] == f"interrupted: the same command goes on from the checkpoint {file}\n"


def stop_at(enough: Callable[[object], bool]) -> Callable[[object], None]:
    def report(state: object) -> None:
        if enough(state):
            raise KeyboardInterrupt

    return report


def test_a_certificate_says_what_is_proved_and_refuted() -> None:
    """What an interrupted search claims lies within what the whole one does."""
    torch.manual_seed(0)
    flow = USFlow(4, blocks=0)
    network = random_network(np.random.default_rng(5), (4, 8, 8, 2))
    query = flow_query(flow, network, Ball(1, 20.0, 4), classified_as(0, -0.5))
    whole = certify(query, gap=1e-4, timeout=PATIENCE)
    assert whole.complete
    assert whole.witness is not None
    with pytest.raises(InterruptedSearch) as caught:
        certify(query, gap=1e-4, timeout=PATIENCE, report=stop_at(lambda state: state.proved > 0))  # type: ignore[attr-defined]
    found = caught.value.found
    assert not found.complete
    assert found.reason == "interrupted"
    assert 0 < found.proved_radius <= whole.refuted_radius
    assert whole.proved_radius <= found.refuted_radius
    assert found.witness is None or found.witness.norm == found.refuted_radius
    with pytest.raises(InterruptedSearch) as caught:
        certify(query, timeout=PATIENCE, report=stop_at(lambda state: True))
    assert caught.value.found.proved_radius == 0


def test_boxes_that_were_decided_are_reported() -> None:
    network = random_network(np.random.default_rng(0), (20, 64, 64, 64, 2))
    queries = [network_query(network, Ball(math.inf, radius, 20), classified_as(0, -2.0)) for radius in (1e-3, 1.0)]
    with pytest.raises(InterruptedSearch) as caught:
        verify_all(queries, ["bab"], timeout=600, report=stop_at(lambda text: text.startswith("2 of 2: ")))  # type: ignore[attr-defined]
    found = caught.value.found
    assert [one.verdict.outcome for one in found.each] == [Outcome.HOLDS, Outcome.UNKNOWN]
    assert found.verdict.outcome is Outcome.UNKNOWN
    assert "interrupted: 2 of 2: " in found.verdict.reason


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("count", [1, 2])
def test_an_interrupt_that_comes_with_an_answer(monkeypatch: pytest.MonkeyPatch, outcome: Outcome, count: int) -> None:
    """It is an answer where it decides the question, and the question stays open where others were not asked."""
    network = random_network(np.random.default_rng(0), (2, 4, 2))
    queries = [network_query(network, Ball(1, 1.0, 2), classified_as(0, 9.0))] * count
    witness = replay(queries[0], [0.0, 0.0]) if outcome is Outcome.VIOLATED else None
    answer = Verdict(outcome, "by an engine", witness)

    def stopped(*arguments: object, **options: object) -> None:
        raise InterruptedSearch(Answers(answer, (answer,)))

    monkeypatch.setattr(sys.modules["verify.engines.joint"], "answered", stopped)
    if outcome is Outcome.VIOLATED or (outcome is Outcome.HOLDS and count == 1):
        assert verify_all(queries).verdict.outcome is outcome
        return
    with pytest.raises(InterruptedSearch) as caught:
        verify_all(queries)
    assert caught.value.found.verdict.outcome is Outcome.UNKNOWN
