"""The corpus: its truth, and every engine, tool and file form against it."""

import random
import shutil

import corpus
import pytest
from form_readers import EXACT, files_of, has_form, readers
from shares import by_day

from exporters import FORMS, write_bundle
from veriflow.errors import SolverError
from veriflow.piecewise.evaluate import evaluate_exact
from veriflow.testing.enumeration import violating_point
from verify import ENGINES, Outcome, external_tool, verify

TRUTHS = corpus.truths()
READERS = readers()
FORMS_THAT_NOBODY_READS = {"vnnlib2-networks"}


def parts(count=6):
    """The names in parts: the first has every kind of region, every statement and some edges; others share the rest."""
    edges = [name for name in TRUTHS if name.startswith("edge.")]
    first, seen = edges[::5], set()
    for name in random.Random(0).sample(list(TRUTHS), len(TRUTHS)):  # noqa: S311 - nothing secret
        found = set(name.split(".")[:2])
        if name not in edges and not found <= seen:
            first.append(name)
            seen |= found
    rest = [name for name in TRUTHS if name not in first]
    return [first, *(rest[k :: count - 1] for k in range(count - 1))]


PARTS = parts()
NUMBERS = by_day(range(len(PARTS)), 1)


def test_there_is_something_of_every_kind():
    kinds = {name.partition(".")[0] for name in TRUTHS}
    assert len(TRUTHS) >= 300
    assert kinds == {"edge"} | {name.partition(".")[0] for name in corpus.FAMILIES}
    for truth in (True, False):
        assert sum(entry.violated is truth and not entry.near for entry in TRUTHS.values()) >= 80
    assert sum(entry.near for entry in TRUTHS.values()) < len(TRUTHS) / 4


def test_each_part_has_both_truths():
    assert sorted(name for part in PARTS for name in part) == sorted(TRUTHS)
    for part in PARTS:
        assert 0.3 <= sum(TRUTHS[name].violated for name in part) / len(part) <= 0.7


@pytest.mark.parametrize("number", NUMBERS)
def test_the_truth_is_that_of_all_activation_patterns(number):
    for name in PARTS[number]:
        query = corpus.query(name)
        point = violating_point(query)
        assert (point is not None) == TRUTHS[name].violated, name
        if point is not None:
            assert query.region.contains(point), name
            assert query.violated_by(evaluate_exact(query.graph, point)[query.graph.output]), name


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_engines_are_right(engine, number):
    """What is near its threshold may be left open by those who compute in floats."""
    if ENGINES[engine].version is None:
        pytest.skip(f"{engine} is not installed")
    for name in PARTS[number]:
        verdict, truth = verify(corpus.query(name), engine, timeout=60), TRUTHS[name]
        if verdict.outcome is Outcome.UNKNOWN:
            assert truth.near, (name, engine, verdict.reason)
            assert not engine.startswith("smt"), (name, engine, verdict.reason)
        else:
            assert verdict.outcome is wanted(truth), (name, engine, verdict.reason)
        assert (verdict.witness is not None) == (verdict.outcome is Outcome.VIOLATED), (name, truth)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("tool", ["marabou", "gurobi", "smt:z3", pytest.param("vibecheck", marks=pytest.mark.nightly)])
def test_outside_tools_are_right(tool, number):
    """What a tool leaves open (a `sat` at a strict tie, which does not replay, or its time limit) is not wrong."""
    try:
        chosen = external_tool(tool)
    except SolverError as error:
        pytest.skip(str(error))
    clear = decided = 0
    for name in PARTS[number]:
        verdict, truth = chosen.run(corpus.query(name), timeout=60), TRUTHS[name]
        clear += not truth.near
        decided += not truth.near and verdict.outcome is not Outcome.UNKNOWN
        if verdict.outcome is Outcome.VIOLATED or not truth.near:
            assert verdict.outcome in (Outcome.UNKNOWN, wanted(truth)), (name, tool, verdict.reason)
    assert decided >= 0.85 * clear


def wanted(truth):
    return Outcome.VIOLATED if truth.violated else Outcome.HOLDS


@pytest.fixture(scope="module")
def bundle(request, tmp_path_factory):
    """The names of a part, and the folder with their files."""
    names = PARTS[request.param]
    folder = write_bundle(
        tmp_path_factory.mktemp("corpus") / "bundle",
        {name.replace(".", "-"): corpus.query(name) for name in names},
        forms=tuple(FORMS),
    )
    yield names, folder
    shutil.rmtree(folder)


SLOW = {("smtlib", "cvc5"), ("smtlib-plain", "cvc5"), ("smtlib-plain", "Z3")}


@pytest.mark.parametrize("bundle", NUMBERS, indirect=True)
@pytest.mark.parametrize(
    ("form", "tool"),
    [
        pytest.param(*key, marks=[pytest.mark.nightly] if key in SLOW else [])
        for key in READERS
        if key[1] != "vibecheck"
    ],
)
def test_every_form_is_read_and_means_the_query(bundle, form, tool):
    names, folder = bundle
    read = 0
    for name in names:
        truth, files = TRUTHS[name], files_of(folder, name.replace(".", "-"))
        if not has_form(files, form):
            continue
        word = READERS[form, tool](files, 60)
        if form in FORMS_THAT_NOBODY_READS:
            assert word == "refused"
            continue
        right = "sat" if truth.violated else "unsat"
        clear = not (truth.near or corpus.is_thin(corpus.query(name)))
        assert word == right or (not clear and tool not in EXACT and word != "refused"), (name, word)
        read += 1
    assert read >= len(names) * 50 / 355 or form in FORMS_THAT_NOBODY_READS
