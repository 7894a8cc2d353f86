"""A search that was stopped, even by force, goes on from its file to the same answer."""

import itertools
import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from small_queries import random_network
from typer.testing import CliRunner

from exporters import graph_to_onnx
from veriflow import Ball, Box, TrainingOptions, USFlow, classified_as, fit, network_query, save_flow
from veriflow.errors import QueryError, StorageError
from veriflow.files.sealed import load_tensors, save_tensors
from veriflow.piecewise.evaluate import evaluate
from verify import Outcome, certify, verify, verify_all
from verify.bab.checkpoint import KIND, SearchFile, fingerprint
from verify.bab.search import DomainSearch
from verify.cli import app
from verify.cli.question import ask
from verify.witness.attack import climb

DIM = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A flow and a network on which a search to a gap of 1e-4 takes some hundred boxes."""
    path = tmp_path_factory.mktemp("search")
    torch.manual_seed(0)
    flow = USFlow(DIM, blocks=2, hidden=(8,))
    fit(flow, torch.randn(200, DIM) @ torch.randn(DIM, DIM), TrainingOptions(steps=60), progress=False)
    save_flow(flow, path / "flow.safetensors")
    network = random_network(np.random.default_rng(5), (DIM, 12, 12, 2))
    (path / "net.onnx").write_bytes(graph_to_onnx(network))
    return path


def question(folder, label=0, mass=0.999):
    prop = f"classified_as({label}, -0.5)"
    return ask(folder / "flow.safetensors", folder / "net.onnx", prop, mass, None).queries[0]


def saved(file):
    """The numbers and the shapes of what a checkpoint of one query has."""
    _, tensors = load_tensors(file, KIND)
    found = {name.partition("/")[2]: tensor for name, tensor in tensors.items()}
    return {name: float(tensor) if not tensor.dim() else len(tensor) for name, tensor in found.items()}


def killed(words, file, is_enough):
    """Run a command of veriflow, and kill it once its checkpoint has enough, unless it ends before."""
    command = [sys.executable, "-m", "veriflow", *map(str, words), "--checkpoint", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (file.exists() and is_enough(saved(file))):
        time.sleep(0.01)
    process.kill()
    process.wait()


def test_a_search_killed_in_the_middle_goes_on_to_the_same_answer(folder, tmp_path):
    file, whole = tmp_path / "search", certify(question(folder), gap=1e-4, timeout=300)
    assert whole.complete
    words = ["certify", "--flow", folder / "flow.safetensors", "--network", folder / "net.onnx", "--gap", "1e-4"]
    killed([*words, "--property", "classified_as(0, -0.5)", "--timeout", "300"], file, lambda found: "proved" in found)
    assert 0 <= saved(file)["proved"] <= whole.refuted_radius
    again = certify(question(folder), gap=1e-4, timeout=300, checkpoint=file)
    assert again.complete
    assert again.refuted_radius == pytest.approx(whole.refuted_radius, rel=3e-4)
    assert again.proved_radius == pytest.approx(whole.proved_radius, rel=3e-4)
    once_more = certify(question(folder), gap=1e-4, timeout=300, checkpoint=file)
    assert once_more.complete
    assert once_more.boxes < whole.boxes
    assert list(tmp_path.iterdir()) == [file]


def test_what_was_proved_in_too_little_time_is_kept(folder, tmp_path):
    file = tmp_path / "search"
    radii, times = [0.0], (1e-3 * 2**k for k in itertools.count())
    while len(radii) < 4 or not radii[-1]:
        part = certify(question(folder), gap=1e-4, timeout=next(times), checkpoint=file)
        radii.append(part.proved_radius)
        assert saved(file).get("proved", 0.0) == radii[-1]
    assert radii == sorted(radii)


class StopError(Exception):
    """Ends a search from within, as a crash would."""


def stop_after(count):
    """A report that ends the search at the ``count``-th line."""
    lines = itertools.count(1)

    def report(state):
        if next(lines) == count:
            raise StopError

    return report


@pytest.mark.parametrize("steps", [2, 4])
@pytest.mark.parametrize("few", [DIM, 0])
def test_a_certificate_goes_on_within_a_ball(folder, tmp_path, monkeypatch, few, steps):
    """By boxes and by units, stopped again and again after so many rounds: it ends as one run does."""
    monkeypatch.setattr(sys.modules["verify.measures.growing_balls"], "FEW_DIMENSIONS", few)
    monkeypatch.setattr(sys.modules["verify.bab.relu_split"], "LEAF_UNITS", 0)
    for module in ("verify.bab.relu_split", "verify.bab.box_split"):
        monkeypatch.setattr(sys.modules[module], "BATCH", 8)
    query, file = question(folder), tmp_path / "search"
    whole, stops = certify(query, gap=1e-3, timeout=300), 0
    assert whole.complete
    while True:
        try:
            part = certify(query, gap=1e-3, timeout=300, checkpoint=file, report=stop_after(steps + stops))
            break
        except StopError:
            stops += 1
            assert saved(file).get("proved", 0.0) <= whole.refuted_radius
    assert part.complete
    assert stops > 2
    assert part.proved_radius == pytest.approx(whole.proved_radius, rel=2e-3)
    assert part.refuted_radius == pytest.approx(whole.refuted_radius, rel=2e-3)
    assert part.proved_radius <= whole.refuted_radius
    assert whole.proved_radius <= part.refuted_radius


def test_a_smaller_gap_does_not_trust_boxes_that_a_larger_one_left_out(folder, tmp_path):
    file = tmp_path / "search"
    coarse = certify(question(folder), gap=0.3, timeout=300, checkpoint=file)
    fine = certify(question(folder), gap=1e-3, timeout=300, checkpoint=file)
    whole = certify(question(folder), gap=1e-3, timeout=300)
    assert coarse.complete
    assert fine.complete
    assert fine.proved_radius <= whole.refuted_radius
    assert fine.refuted_radius == pytest.approx(whole.refuted_radius, rel=2e-3)


HARD = (5, 24, 24, 24, 2)
SEARCHES = {
    "signs": ((12, 24, 24, 24, 2), Ball(math.inf, 1.0, 12), -2.0),
    "boxes": (HARD, Box(-2 * np.ones(5), 2 * np.ones(5)), -1.0),
    "norms": ((4, 24, 24, 24, 2), Ball(1, 10.0, 4), -3.0),
    "both": (HARD, Ball(1, 10.0, 5), -1.5),
    "shell": (HARD, Ball(1, 8.0, 5, 4.0), -3.0),
}
"""Networks, regions and margins at which a property holds, but not at once."""


def hard_query(way):
    sizes, region, margin = SEARCHES[way]
    return network_query(random_network(np.random.default_rng(1), sizes), region, classified_as(0, margin))


@pytest.mark.parametrize("way", SEARCHES)
def test_a_verdict_goes_on_to_its_end(way, tmp_path):
    """Boxes are the same in the end as in one run; bounds that all pieces share are refined anew, at other times."""
    query, file = hard_query(way), tmp_path / "search"
    whole = verify(query, "bab", timeout=300)
    assert whole.outcome is Outcome.HOLDS
    counts, opened = [0.0], []
    for steps in itertools.chain(range(3, 9), itertools.repeat(1000)):
        try:
            verdict = verify(query, "bab", timeout=300, checkpoint=file, report=stop_after(steps))
            break
        except StopError:
            found = saved(file)
            counts.append(found.get("pieces", found.get("boxes")))
            opened.append(found.get("signs", found.get("lower")))
    assert verdict.outcome is whole.outcome
    assert min(opened[:-1]) > 0  # the last stop may be when nothing is open any more
    assert way in ("signs", "both") or verdict.reason == whole.reason
    assert len(counts) > 3
    at = next((place for place in range(1, len(counts)) if counts[place] < counts[place - 1]), len(counts))
    assert counts[:at] == sorted(counts[:at])
    assert counts[at:] == sorted(counts[at:])  # a ball of five dimensions has its units split, and then its boxes
    again = verify(query, "bab", timeout=300, checkpoint=file)
    assert (again.outcome, again.reason) == (verdict.outcome, verdict.reason)


@pytest.mark.parametrize("way", SEARCHES)
@pytest.mark.parametrize("seed", range(3))
def test_a_violation_in_an_open_part_is_found_after_any_number_of_stops(way, seed, tmp_path, monkeypatch):
    """The property is false by a thousandth of the greatest difference known; nothing but the search looks for violations."""
    monkeypatch.setattr(sys.modules["verify.witness.attack"], "find_violation", lambda query, **options: None)
    monkeypatch.setattr(DomainSearch, "try_points", lambda *arguments: None)
    for module in ("verify.bab.relu_split", "verify.bab.box_split"):
        monkeypatch.setattr(sys.modules[module], "LEAF_UNITS", 6)
    sizes, region, _ = SEARCHES[way]
    network = random_network(np.random.default_rng(seed), (sizes[0], 8, 8, 2))
    query = network_query(network, region, classified_as(0))
    best = climb(query, region.draw(256, seed))
    outputs = evaluate(network, best)[network.output]
    greatest = float((outputs[:, 1] - outputs[:, 0]).max())
    query = network_query(network, region, classified_as(0, -greatest + 1e-3 * abs(greatest)))
    file, stops = tmp_path / "search", 0
    while True:
        try:
            verdict = verify(query, "bab", timeout=300, checkpoint=file, report=stop_after(2))
            break
        except StopError:
            stops += 1
    assert verdict.outcome is Outcome.VIOLATED
    assert stops


@pytest.mark.parametrize("way", SEARCHES)
def test_a_verdict_that_has_no_time_at_all_comes_in_the_end(way, tmp_path):
    query, file = hard_query(way), tmp_path / "search"
    for _ in range(3):
        part = verify(query, "bab", timeout=1e-3, checkpoint=file)
        assert part.outcome in (Outcome.UNKNOWN, Outcome.HOLDS)
    assert verify(query, "bab", timeout=300, checkpoint=file).outcome is Outcome.HOLDS


def test_a_violation_is_kept(tmp_path):
    network = random_network(np.random.default_rng(1), HARD)
    query = network_query(network, Ball(1, 10.0, 5), classified_as(0))
    file, witness = SearchFile(tmp_path / "search", query), verify(query, "bab").witness
    file.keep(DomainSearch(witness=witness))
    file.write()
    verdict = verify(query, "bab", checkpoint=tmp_path / "search")
    assert (verdict.outcome, verdict.witness) == (Outcome.VIOLATED, witness)
    assert "the checkpoint" in verdict.reason


def test_a_full_disk_does_not_end_a_search(folder, tmp_path, monkeypatch):
    module, file = sys.modules["verify.bab.checkpoint"], tmp_path / "search"

    def save(path, kind, document, tensors):
        if any(document["searches"].values()):
            raise StorageError("expected room on the disk; got none")
        save_tensors(path, kind, document, tensors)

    monkeypatch.setattr(module, "save_tensors", save)
    certificate = certify(question(folder), gap=1e-2, timeout=300, checkpoint=file)
    assert certificate.complete
    verdict = verify(hard_query("boxes"), "bab", timeout=300, checkpoint=tmp_path / "other")
    assert verdict.outcome is Outcome.HOLDS
    for reason in (certificate.reason, verdict.reason):
        assert reason.endswith("; the checkpoint is not up to date: expected room on the disk; got none")


def test_few_writes_where_they_take_long(tmp_path, monkeypatch):
    """At a second for each write, there is none in the twenty seconds after one."""
    module, now = sys.modules["verify.bab.checkpoint"], [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    file = SearchFile(tmp_path / "search", hard_query("boxes"))
    written = []

    def save():
        written.append(now[0])
        now[0] += 1

    monkeypatch.setattr(file, "_save", save)
    state = DomainSearch()
    for _ in range(100):
        file.keep(state)
        now[0] += 1
    assert len(written) == 100 // 20
    file.write()
    assert len(written) == 100 // 20 + 1


@pytest.fixture
def on_files(tmp_path):
    """A network and a property file that takes thousands of pieces, as options of verify."""
    sizes = SEARCHES["signs"][0]
    (tmp_path / "net.onnx").write_bytes(graph_to_onnx(random_network(np.random.default_rng(1), sizes)))
    lines = [f"(declare-const X_{i} Real)" for i in range(sizes[0])]
    lines += ["(declare-const Y_0 Real)", "(declare-const Y_1 Real)"]
    lines += [f"(assert (>= X_{i} -1.0)) (assert (<= X_{i} 1.0))" for i in range(sizes[0])]
    lines += ["(assert (>= Y_1 (+ Y_0 1.8)))"]
    (tmp_path / "property.vnnlib").write_text("\n".join(lines))
    return ["verify", "--network", tmp_path / "net.onnx", "--property", tmp_path / "property.vnnlib"]


def shown(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_verdict_killed_in_the_middle_goes_on(on_files, tmp_path):
    file = tmp_path / "search"
    whole = shown(*on_files, "--with", "bab", "--timeout", 300)
    assert whole.exit_code == 0
    killed([*on_files, "--with", "bab", "--timeout", "300"], file, lambda found: found.get("pieces", 0) > 0)
    before = saved(file)
    again = shown(*on_files, "--with", "bab", "--timeout", 300, "--checkpoint", file)
    assert again.exit_code == 0
    assert again.stderr == f"going on from the checkpoint {file}\n"
    assert "HOLDS" in again.stdout
    after = saved(file)
    assert after["pieces"] >= before["pieces"] > 0
    assert after["signs"] == 0


def test_several_solvers_go_on_with_what_one_has_left(on_files, tmp_path):
    """The engine in a process of its own reads and writes the same file."""
    file = tmp_path / "search"
    killed([*on_files, "--with", "bab", "--timeout", "300"], file, lambda found: found.get("pieces", 0) > 0)
    before = saved(file)["pieces"]
    found = shown(*on_files, "--with", "bab,milp", "--timeout", 300, "--checkpoint", file, "--json")
    assert found.exit_code == 0
    answers = {one["engine"]: one for one in json.loads(found.stdout)["regions"][0]["answers"]}
    assert answers["bab"]["outcome"] == "holds"
    assert saved(file)["pieces"] >= before


def test_an_interrupt_says_how_to_go_on(on_files, tmp_path, monkeypatch):
    file = tmp_path / "search"
    module = sys.modules["verify.engines.bab"]
    text = module.progress_text
    calls = itertools.count()

    def interrupt(search, query):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return text(search, query)

    monkeypatch.setattr(module, "progress_text", interrupt)
    stopped = shown(*on_files, "--with", "bab", "--checkpoint", file)
    assert stopped.exit_code == 130
    assert "UNKNOWN" in stopped.stdout
    assert "interrupted: " in stopped.stdout
    assert stopped.stderr == f"interrupted: the same command goes on from the checkpoint {file}\n"
    assert saved(file)["signs"] > 0
    assert shown(*on_files, "--with", "bab", "--checkpoint", file).exit_code == 0
    calls = itertools.count()
    stopped = shown(*on_files, "--with", "bab")
    assert stopped.exit_code == 130
    assert "with --checkpoint FILE a run can be resumed" in stopped.stderr


def test_a_file_of_several_boxes_has_one_checkpoint(tmp_path):
    queries = [hard_query("boxes"), hard_query("norms")]
    file = tmp_path / "search"
    with pytest.raises(StopError):
        verify_all(queries, ["bab"], timeout=300, checkpoint=file, report=stop_after(25))
    document, tensors = load_tensors(file, KIND)
    assert list(document["searches"]) == [fingerprint(query) for query in queries]
    assert len({name.partition("/")[0] for name in tensors}) == 2
    joint = verify_all(queries, ["bab"], timeout=300, checkpoint=file)
    assert joint.verdict.outcome is Outcome.HOLDS
    with pytest.raises(QueryError, match="same question"):
        verify_all(queries[:1], ["bab"], checkpoint=file)


def test_checkpoints_of_something_else_are_refused(folder, tmp_path):
    file = tmp_path / "search"
    certify(question(folder), timeout=1e-3, checkpoint=file)
    for other in (question(folder, label=1), question(folder, mass=0.9)):
        with pytest.raises(QueryError, match=r"expected a checkpoint of the same question in .*; got one of another"):
            certify(other, checkpoint=file)
    with pytest.raises(QueryError, match="got one of another"):
        verify(question(folder), checkpoint=file)
    whole = file.read_bytes()
    words = ["certify", "--flow", folder / "flow.safetensors", "--network", folder / "net.onnx", "--checkpoint", file]
    middle = len(whole) // 2
    for altered in (b"nothing", whole[:-1], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        file.write_bytes(altered)
        refused = shown(*words, "--property", "classified_as(0, -0.5)", "--mass", 0.999)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "error: expected" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert file.read_bytes() == altered


def test_verify_refuses_checkpoints_of_something_else(on_files, tmp_path):
    file = tmp_path / "search"
    refused = shown(*on_files, "--with", "milp", "--checkpoint", file)
    assert refused.exit_code == 2
    assert "expected bab among the solvers, for a checkpoint; got milp" in refused.stderr
    assert not file.exists()
    verify(hard_query("boxes"), "bab", checkpoint=file, timeout=1e-3)
    refused = shown(*on_files, "--checkpoint", file)
    assert refused.exit_code == 2
    assert "expected a checkpoint of the same question" in refused.stderr
    refused = shown(*on_files, "--checkpoint", tmp_path / "no" / "search")
    assert refused.exit_code == 2


@pytest.mark.parametrize("way", ["signs", "boxes", "norms"])
def test_open_parts_that_do_not_fit_are_refused(way, tmp_path):
    """Files that are sealed, but not written by a search of this query."""
    query, file = hard_query(way), tmp_path / "search"
    with pytest.raises(StopError):
        verify(query, "bab", checkpoint=file, report=stop_after(4))
    document, tensors = load_tensors(file, KIND)
    for name, tensor in tensors.items():
        others = [
            tensor[..., None],
            torch.full_like(tensor, -2 if tensor.dtype != torch.float64 else math.nan),
        ]
        if tensor.dim():
            others += [tensor[:-1], tensor[..., :-1], tensor.int()]
        for other in others:
            if other.dtype == tensor.dtype and torch.equal(other, tensor):
                continue
            save_tensors(file, KIND, document, tensors | {name: other})
            with pytest.raises(StorageError, match="open parts"):
                verify(query, "bab", checkpoint=file)
        save_tensors(file, KIND, document, {key: value for key, value in tensors.items() if key != name})
        with pytest.raises(StorageError, match="open parts"):
            verify(query, "bab", checkpoint=file)


@pytest.mark.parametrize(("p", "dim", "margin"), [(1, 3, 2.0), (float("inf"), 12, 1.5)])
def test_a_search_that_fills_the_memory_says_so_and_what_is_proved(monkeypatch, p, dim, margin):
    network = random_network(np.random.default_rng(1), (dim, 16, 16, 2))
    query = network_query(network, Ball(p, 2.0, dim), classified_as(0, -margin))
    for module in ("verify.bab.search", "verify.bab.box_split"):
        monkeypatch.setattr(sys.modules[module], "MOST_DOMAINS", 0)
    monkeypatch.setattr(sys.modules["verify.witness.attack"], "find_violation", lambda query, **options: None)
    verdict = verify(query, "bab", timeout=60)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "memory" in verdict.reason


@pytest.mark.parametrize("dim", [3, 12])
def test_a_search_without_any_time_proves_nothing(monkeypatch, dim):
    monkeypatch.setattr(sys.modules["verify.witness.attack"], "find_violation", lambda query, **options: None)
    network = random_network(np.random.default_rng(1), (dim, 16, 16, 2))
    box = Box(-2 * np.ones(dim), 2 * np.ones(dim))
    for region in (box, Ball(1, 20.0, dim), Ball(math.inf, 2.0, dim), Ball(1, 20.0, dim, 1.0)):
        verdict = verify(network_query(network, region, classified_as(0)), "bab", timeout=1e-9)
        assert verdict.outcome is Outcome.UNKNOWN, (region, verdict.reason)
