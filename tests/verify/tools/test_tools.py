"""Outside tools: whatever a program does, the answer is a sentence and never a wrong verdict, and nothing is left running."""

import json
import math
import os
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_queries import PROPERTIES, REGIONS, exact, inside_points, linear, random_graph

from veriflow.errors import DisagreementError, QueryError, SolverError
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.piecewise.graph import Affine, Graph, Relu
from veriflow.queries.constraints import y
from veriflow.queries.properties import formula_property
from veriflow.queries.query import Query, network_query
from veriflow.regions.ball import Ball
from veriflow.regions.box import Box
from veriflow.regions.product import Product
from verify import Outcome, external_tool, found_tools, solver, verify, verify_with
from verify.tools.nearby import ROUNDING, drawn_in, replay_claim
from verify.tools.process import ToolRun, run_tool
from verify.tools.registry import FOLDERS_VARIABLE
from verify.tools.smtlib import SmtLibTool
from verify.tools.tool import exact_number
from verify.tools.vnnlib import claim_of

PATIENCE = 120.0  # seconds that no test needs


def step_query(threshold: float, p: float = 1) -> Query:
    """Is y = relu(z0) + relu(−z1) < threshold on the unit ball? Its maximum there is 1 for p = 1, and 2 for p = ∞."""
    nodes = (
        Affine("a", (("z", np.array([[1.0, 0.0], [0.0, -1.0]])),), np.zeros(2)),
        Relu("h", "a"),
        Affine("y", (("h", np.array([[1.0, 1.0]])),), np.zeros(1)),
    )
    return network_query(Graph("z", 2, nodes, "y"), Ball(p, 1.0, 2), formula_property(y[0] < threshold))


VIOLATED, HOLDS = step_query(0.5), step_query(1.5)


def tool(folder: Path, body: str, name: str = "tool") -> str:
    """A program with the command line of VNN-LIB 2.0 whose ``verify`` is a shell script, by its name for `solver`."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nif [ "$1" = supports ]; then echo 2.0; exit; fi\n{body}\n')
    path.chmod(0o755)
    return f"vnnlib2:{path}"


PYTHON = sys.executable
FAULTS = {
    "crashes": ("kill -SEGV $$", "was ended by signal 11"),
    "fails": ("echo 'no such operator' >&2; exit 3", "failed with exit code 3: no such operator"),
    "says nothing": ("exit 0", "gave no answer that could be read"),
    "prints rubbish": ("echo 'a model of insat'", "gave no answer that could be read: a model of insat"),
    "prints bytes": (r"printf '\377\376\000sat'", "gave no answer that could be read"),
    "floods": ("yes", "printed more than 16 MB"),
    "gives up": ("echo unknown", "gave up"),
    "runs late": ("echo timed-out", "reached its time limit"),
    "lies": (
        "echo sat; echo 'X float32 [1,2]'; echo 0.25; echo 0.0",
        "claims a violation but its witness does not replay",
    ),
    "lies far out": ("echo sat; echo '((X_0 9.0) (X_1 0.0) (Y_0 9.0))'", "its witness does not replay"),
    "has no witness": ("echo sat", "claims a violation but gives no witness"),
    "has half a witness": ("echo sat; echo '((X_0 0.75))'", "claims a violation but gives no witness"),
    "has no number": ("echo sat; echo '((X_0 nan) (X_1 inf))'", "claims a violation but gives no witness"),
    "has a huge number": ("echo sat; echo '((X_0 1e999999999) (X_1 0))'", "claims a violation but gives no witness"),
    "fails after unsat": ("echo unsat; exit 1", "failed with exit code 1: unsat"),
    "is killed after unsat": ("echo unsat; kill -KILL $$", "was ended by signal 9"),
    "is killed below after unsat": ("sh -c 'echo unsat; kill -SEGV $$'; exit $?", "was ended by signal 11"),
    "eats memory": (f"exec {PYTHON} -c 'x = bytearray(2**31)'", "ran out of memory (limit 0.5 GB)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_tool_at_fault_is_unknown_with_the_reason(fault: str, tmp_path: Path) -> None:
    body, sentence = FAULTS[fault]
    chosen = external_tool(tool(tmp_path, body))
    verdict = chosen.run(VIOLATED, timeout=PATIENCE, memory=0.5)
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason.startswith("tool ")
    assert sentence in verdict.reason


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and only waits to be collected does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    "child", ["sleep 600", "timeout 600 sleep 600", "setsid sleep 600", "sh -c \"trap '' TERM; sleep 600; sleep 600\""]
)
@pytest.mark.parametrize("end", ["wait", "exit 0", "exec sleep 600"])
def test_nothing_is_left_running(child: str, end: str, tmp_path: Path) -> None:
    pids, stop = tmp_path / "pids", threading.Event()
    pids.touch()

    def stop_when_both_run() -> None:
        while len(pids.read_text().splitlines()) < 2:
            time.sleep(0.02)
        stop.set()

    threading.Thread(target=stop_when_both_run, daemon=True).start()
    script = f"{child} & echo $! >> {pids}; echo $$ >> {pids}; {end}"
    run_tool(["/bin/sh", "-c", script], timeout=10 * PATIENCE, stop=stop)
    written = [int(line) for line in pids.read_text().split()]
    assert len(written) == 2
    deadline = time.monotonic() + PATIENCE
    while any(map(alive, written)):
        assert time.monotonic() < deadline, "a process outlived its tool"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("echo unsat", Outcome.HOLDS),
        ("echo unsat; exit 1", Outcome.UNKNOWN),
        ("echo unsat; echo '(error \"no model\")'; exit 1", Outcome.HOLDS),
        ("echo '(error \"no such logic\")'; echo unsat; echo '(error \"no model\")'; exit 1", Outcome.UNKNOWN),
        ("echo unsat; echo '(error \"no model\")'; kill -KILL $$", Outcome.UNKNOWN),
    ],
)
def test_an_smt_solver_that_fails_for_want_of_a_model_has_answered(body: str, outcome: Outcome, tmp_path: Path) -> None:
    tool(tmp_path, body)
    assert verify(HOLDS, f"smt:{tmp_path / 'tool'}", timeout=PATIENCE).outcome is outcome


def test_asking_a_tool_what_it_supports_takes_of_the_time(tmp_path: Path) -> None:
    path = tmp_path / "slow"
    path.write_text(f'#!/bin/sh\nif [ "$1" = supports ]; then sleep 600; fi\necho "$@" > {tmp_path}/ran; sleep 600\n')
    path.chmod(0o755)
    verdict = verify(HOLDS, f"vnnlib2:{path}", timeout=1.0)
    assert verdict.reason == "slow reached the time limit of 1 s before it was asked"
    assert not (tmp_path / "ran").exists()


def test_a_tool_past_its_time_is_stopped(tmp_path: Path) -> None:
    verdict = verify(HOLDS, tool(tmp_path, "sleep 600"), timeout=0.3)
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason.startswith("tool reached the time limit of")


def test_the_folder_of_a_run_goes(tmp_path: Path) -> None:
    verify(
        HOLDS, tool(tmp_path, f"dirname $2 > {tmp_path}/where; ls $(dirname $2) > {tmp_path}/what"), timeout=PATIENCE
    )
    assert (tmp_path / "what").read_text().split() == ["query.onnx", "query.vnnlib"]
    assert not Path((tmp_path / "where").read_text().strip()).exists()


HONEST = {
    "VNN-LIB 2.0": "echo sat; echo 'X float32 [1,2]'; echo 0.75; echo -1.5e-1; echo 'Y float32 [1,2]'; echo 9; echo 9",
    "VNN-COMP": "echo sat; echo '((X_0 0.75)'; echo '(X_1 -0.15) (Y_0 0.9))'",
    "a tie": "echo sat; echo '((X_0 0.5) (X_1 0.0))'",
    "a little outside": "echo sat; echo '((X_0 1.0000005) (X_1 0.0))'",
}


@pytest.mark.parametrize("form", HONEST)
def test_a_true_violation_counts(form: str, tmp_path: Path) -> None:
    verdict = verify(VIOLATED, tool(tmp_path, HONEST[form]), timeout=PATIENCE)
    assert verdict.outcome is Outcome.VIOLATED
    assert verdict.witness is not None
    assert VIOLATED.region.contains(verdict.witness.point)
    assert VIOLATED.violated_by(evaluate_exact(VIOLATED.graph, list(verdict.witness.point))["y"])


def test_an_unsat_is_marked_as_a_claim(tmp_path: Path) -> None:
    verdict = verify(HOLDS, tool(tmp_path, "echo unsat"), timeout=PATIENCE)
    assert verdict.outcome is Outcome.HOLDS
    assert verdict.reason == "tool claims that there is no violation; its proof was not checked"


def test_a_tool_that_reads_another_version_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text(f'#!/bin/sh\nif [ "$1" = supports ]; then echo 1.0; exit; fi\ntouch {tmp_path}/ran; echo unsat\n')
    path.chmod(0o755)
    verdict = verify(HOLDS, f"vnnlib2:{path}", timeout=PATIENCE)
    assert (verdict.outcome, verdict.reason) == (Outcome.UNKNOWN, "old reads VNN-LIB 1.0 and not 2.0")
    assert not (tmp_path / "ran").exists()


def scripts(folder: Path, run: str, prepare: str = "true") -> str:
    for name, body in (("prepare_instance.sh", prepare), ("run_instance.sh", run)):
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    return f"vnncomp:{folder}"


@pytest.mark.parametrize(
    ("run", "outcome", "reason"),
    [
        ("printf 'sat\\n((X_0 0.75)\\n(X_1 0.0)\\n(Y_0 0.75))\\n' > $5", Outcome.VIOLATED, "found a violation"),
        ("echo unsat > $5", Outcome.HOLDS, "claims"),
        ("echo timeout > $5", Outcome.UNKNOWN, "reached its time limit"),
        ("echo error > $5", Outcome.UNKNOWN, "gave no answer that could be read"),
        ("echo unsat", Outcome.UNKNOWN, "gave no answer that could be read"),
        ("exit 1", Outcome.UNKNOWN, "failed with exit code 1"),
    ],
)
def test_the_scripts_of_the_competition(run: str, outcome: Outcome, reason: str, tmp_path: Path) -> None:
    check = 'test "$1" = v1 -a -f "$3" -a -f "$4" -a -f prepare_instance.sh || exit 9'
    name = scripts(tmp_path, f"{check}\ntest $6 -ge 1 || exit 8\n{run}", prepare=check)
    verdict = verify(VIOLATED, name, timeout=PATIENCE)
    assert verdict.outcome is outcome
    assert reason in verdict.reason


def test_a_failed_preparation_is_no_run(tmp_path: Path) -> None:
    verdict = verify(
        VIOLATED, scripts(tmp_path, "echo unsat > $5", prepare="echo no GPU >&2; exit 1"), timeout=PATIENCE
    )
    assert verdict.outcome is Outcome.UNKNOWN
    assert "failed with exit code 1: no GPU" in verdict.reason


TINY = {
    "box": Box(np.array([-0.3, 0.1]), np.array([0.5, 0.4])),
    "L1 ball": Ball(1, 0.7, 2),
    "Linf ball": Ball(math.inf, 0.4, 2),
    "L1 shell": Ball(1, 0.9, 2, 0.3),
    "Linf shell": Ball(math.inf, 0.5, 2, 0.2),
    "shell times box": Product((Ball(math.inf, 0.5, 1, 0.2), Box(np.array([-0.3]), np.array([0.4])))),
    "L1 shell times ball": Product((Ball(1, 0.5, 1, 0.2), Ball(math.inf, 0.4, 1))),
}


def tiny_query(region: str, prop: str) -> Query:
    """Small enough for SMT solvers: two inputs, three outputs, nine ReLUs."""
    return network_query(random_graph(0, dim=2, width=3, blocks=1), TINY[region], PROPERTIES[prop])


Z3 = Path(sys.executable).with_name("z3")


@pytest.mark.skipif(not Z3.exists(), reason="no z3 binary beside this Python")
@pytest.mark.parametrize("region", TINY)
@pytest.mark.parametrize("prop", PROPERTIES)
def test_the_z3_binary_agrees_with_the_engines(region: str, prop: str) -> None:
    query = tiny_query(region, prop)
    ours, theirs = verify(query, "milp", timeout=PATIENCE), verify(query, f"smt:{Z3}", timeout=PATIENCE)
    assert Outcome.UNKNOWN not in (ours.outcome, theirs.outcome)
    assert ours.outcome is theirs.outcome


FOUND = {name: chosen for name, _, chosen in found_tools() if chosen is not None}


@pytest.mark.parametrize("name", ["marabou", "gurobi"])
@pytest.mark.parametrize("region", TINY)
@pytest.mark.parametrize("prop", PROPERTIES)
def test_real_tools_agree_where_they_are_found(name: str, region: str, prop: str) -> None:
    if name not in FOUND:
        pytest.skip(f"{name} is not found")
    query = tiny_query(region, prop)
    ours, theirs = verify(query, "milp", timeout=PATIENCE), verify(query, name, timeout=PATIENCE)
    assert theirs.outcome is ours.outcome, theirs


@pytest.mark.parametrize("query", [VIOLATED, HOLDS], ids=["violated", "holds"])
def test_vibecheck_agrees_where_it_is_found(query: Query) -> None:
    if "vibecheck" not in FOUND:
        pytest.skip("vibecheck is not found")
    theirs = verify(query, "vibecheck", timeout=10 * PATIENCE)
    assert theirs.outcome is (Outcome.VIOLATED if query is VIOLATED else Outcome.HOLDS), theirs


# several at once


def test_others_go_on_where_one_fails(tmp_path: Path) -> None:
    names = [tool(tmp_path, body, f"tool{k}") for k, (body, _) in enumerate(list(FAULTS.values())[:4])]
    answers = verify_with(VIOLATED, [*names, "milp"], timeout=2 * PATIENCE)
    assert (answers.verdict.outcome, answers.verdict.engine) == (Outcome.VIOLATED, "milp")
    assert answers.verdict.witness is not None
    assert [verdict.engine for verdict in answers.each] == [*names, "milp"]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor runs one solver at a time")
def test_the_first_answer_stops_the_others(tmp_path: Path) -> None:
    slow, fast = tool(tmp_path, "sleep 600", "slow"), tool(tmp_path, "echo unsat", "fast")
    answers = verify_with(HOLDS, [slow, fast], timeout=600)
    assert (answers.verdict.outcome, answers.verdict.engine) == (Outcome.HOLDS, fast)
    assert answers.each[0].outcome is Outcome.UNKNOWN
    assert "another answer came first" in answers.each[0].reason


def test_waiting_for_all_prefers_an_engine_and_compares(tmp_path: Path) -> None:
    answers = verify_with(HOLDS, [tool(tmp_path, "echo unsat"), "milp"], timeout=PATIENCE, wait_for_all=True)
    assert answers.verdict.engine == "milp"
    assert [verdict.outcome for verdict in answers.each] == [Outcome.HOLDS, Outcome.HOLDS]


def test_no_answer_is_everyones_reason(tmp_path: Path) -> None:
    names = [tool(tmp_path, "echo unknown", "a"), tool(tmp_path, "exit 7", "b")]
    verdict = verify_with(HOLDS, names, timeout=PATIENCE).verdict
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason == f"{names[0]}: a gave up; {names[1]}: b failed with exit code 7"


def test_a_disagreement_is_an_error_with_the_evidence(tmp_path: Path) -> None:
    liar, evidence = tool(tmp_path, "echo unsat", "liar"), tmp_path / "evidence"
    evidence.mkdir()
    with pytest.raises(DisagreementError, match="expected solvers that agree; got") as caught:
        verify_with(VIOLATED, [liar, "milp"], timeout=2 * PATIENCE, wait_for_all=True, evidence=evidence)
    text = str(caught.value)
    assert "liar" in text
    assert "milp" in text
    assert str(tmp_path / "evidence-2") in text
    manifest = json.loads((tmp_path / "evidence-2" / "manifest.json").read_text())
    assert manifest["queries"]["query"]["claims"] == {liar: "holds", "milp": "violated"}
    assert list(evidence.iterdir()) == []


def test_engines_in_processes_answer_as_they_do_here() -> None:
    for query in (VIOLATED, HOLDS, tiny_query("L1 ball", "mixed")):
        here = verify(query, "milp")
        there = verify_with(query, ["milp", "smt"], timeout=2 * PATIENCE, wait_for_all=True)
        assert [verdict.outcome for verdict in there.each] == [here.outcome] * 2


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: verify_with(HOLDS, []), SolverError),
        (lambda: verify_with(HOLDS, ["bab", "bab"]), SolverError),
        (lambda: verify_with(HOLDS, ["bab", "abacus"]), SolverError),
        (lambda: verify_with(HOLDS, ["bab", "milp"], timeout=0), SolverError),
        (lambda: verify_with(HOLDS, ["bab", "milp"], memory=0), SolverError),
        (lambda: verify_with(step_query(1, p=2), ["smt:/bin/true", "vnnlib2:/bin/true"]), QueryError),
        (lambda: solver("smt:/no/such/solver"), SolverError),
        (lambda: solver("vnnlib2"), SolverError),
        (lambda: solver("vnncomp:/no/such/folder"), SolverError),
        (lambda: solver("abacus:/bin/sh"), SolverError),
        (lambda: solver("smt:/etc/passwd"), SolverError),
    ],
)
def test_what_cannot_be_asked_is_refused(call: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"expected .*; (got|it is) "):
        call()  # type: ignore[operator]


def test_programs_are_found_in_the_folders_of_the_variable_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("one", "two"):
        (tmp_path / part).mkdir()
        tool(tmp_path / part, "echo unsat", "Marabou")
    monkeypatch.delenv(FOLDERS_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "two"))
    assert external_tool("marabou").program == tmp_path / "two" / "Marabou"
    monkeypatch.setenv(FOLDERS_VARIABLE, f"{tmp_path / 'none'}{os.pathsep}{tmp_path / 'one'}")
    assert external_tool("marabou").program == tmp_path / "one" / "Marabou"
    assert external_tool("smt:Marabou").program == tmp_path / "one" / "Marabou"
    monkeypatch.setenv(FOLDERS_VARIABLE, "")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(SolverError, match="it is not installed"):
        external_tool("marabou")


# answers as text


numbers = st.fractions(min_value=-1000, max_value=1000, max_denominator=10**6)


def smt_number(value: Fraction) -> str:
    size = f"(/ {abs(value.numerator)}.0 {value.denominator}.0)"
    return f"(- {size})" if value < 0 else size


@given(st.lists(numbers, min_size=2, max_size=2))
def test_values_of_smt_solvers_are_read_exactly(values: list[Fraction]) -> None:
    pairs = " ".join(f"(z_{i} {smt_number(value)})" for i, value in enumerate(values))
    run = ToolRun("", 0, f"; a comment\nsat\n({pairs})\n", "")
    claim = SmtLibTool("smt:x", Path("x")).parse(run, HOLDS, Path())
    assert claim.point == values


@pytest.mark.parametrize(
    "text", ["sat", "sat\n((z_0 1))", "sat\n((z_0 1) (z_1 (root-obj x 2)))", "sat\n((z_0", "sat\n)("]
)
def test_values_that_cannot_be_read_are_none(text: str) -> None:
    claim = SmtLibTool("smt:x", Path("x")).parse(ToolRun("", 0, text, ""), HOLDS, Path())
    assert (claim.answer, claim.point) == ("sat", None)


@given(st.text(max_size=200))
def test_any_text_gives_a_claim_and_no_text_a_proof(text: str) -> None:
    claim = claim_of(text, ToolRun("", 0, text, ""), 2)
    assert (claim.answer == "unsat") == (
        text.split()[:1] != [] and text.lower().split()[0].strip("():,") in ("unsat", "holds")
    )


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-1000, max_value=1000))
def test_decimals_are_read_exactly(value: object) -> None:
    assert exact_number(str(value)) == Fraction(str(value))


@pytest.mark.parametrize("region", REGIONS)
def test_points_are_drawn_in_by_rounding_alone(region: str) -> None:
    place = REGIONS[region]
    for point in inside_points(place, np.random.default_rng(0), 50):
        assert drawn_in(place, exact(point)) == exact(point)
    if isinstance(place, Product):
        pytest.skip("its parts are among the others")
    outermost = exact(place.farthest(np.arange(place.dim, 0, -1.0)))
    moved = drawn_in(place, [value * (1 + ROUNDING / 4) for value in outermost])
    assert moved is not None
    assert place.contains(moved)
    assert drawn_in(place, [value * (1 + 100 * ROUNDING) for value in outermost]) is None
    assert drawn_in(place, outermost[:-1]) is None


def test_a_claim_far_from_any_violation_is_not_mended() -> None:
    assert replay_claim(VIOLATED, [Fraction(49, 100), Fraction(0)]) is None
    assert replay_claim(HOLDS, [Fraction(1), Fraction(0)]) is None
    assert replay_claim(VIOLATED, [Fraction(1, 2) - Fraction(1, 10**7), Fraction(0)]) is not None


def test_a_program_that_is_not_there_is_named() -> None:
    run = run_tool(["/no/such/program"], timeout=PATIENCE)
    assert run.code == 127
    assert "/no/such/program" in run.last_words


def test_auto_is_one_engine_and_then_the_exact_one_for_a_near_miss():
    alone = verify_with(HOLDS)
    assert [one.engine for one in alone.each] == ["bab"]
    assert alone.verdict.outcome is Outcome.HOLDS
    tie = network_query(linear([1.0, 1.0]), Box(np.zeros(2), np.ones(2)), formula_property(y[0] <= 2))
    strict = network_query(linear([1.0, 1.0]), Box(np.zeros(2), np.ones(2)), formula_property(y[0] < 2))
    for query, outcome in ((tie, Outcome.HOLDS), (strict, Outcome.VIOLATED)):
        answers = verify_with(query, ["auto"], timeout=60)
        assert answers.verdict.outcome is outcome
        assert answers.each[0].engine == "bab"
        assert answers.verdict.engine == ("smt" if len(answers.each) > 1 else "bab")
    assert [one.engine for one in verify_with(tie).each] == ["bab", "smt"]
