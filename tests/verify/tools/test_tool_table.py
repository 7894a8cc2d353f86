"""The table of outside tools: what is run and what is written for bundles come from the same rows."""

import math
from pathlib import Path

import pytest
from small_queries import PROPERTIES, random_graph

from exporters import FORMS, TOOLS, bundle_tools
from veriflow.queries.query import network_query
from veriflow.regions.ball import Ball
from verify.tools.registry import ADAPTERS, found_tools, is_by_path

QUERY = network_query(random_graph(0, dim=2, width=3, blocks=1), Ball(math.inf, 0.4, 2), PROPERTIES["largest"])


def test_every_adapter_runs_a_tool_of_the_table_and_every_tool_that_is_run_has_an_adapter():
    assert set(ADAPTERS) <= set(TOOLS)
    assert {tool.adapter for tool in TOOLS.values() if tool.adapter} == set(ADAPTERS)
    assert all(set(tool.forms) <= set(FORMS) for tool in TOOLS.values())
    assert [kind for kind in ADAPTERS if is_by_path(kind)] == ["smt", "vnnlib2", "vnncomp"]


@pytest.mark.parametrize("name", ["marabou", "vibecheck", "vnnlib2"])
def test_a_tool_is_run_as_the_readme_of_a_bundle_says(name, tmp_path):
    tool = ADAPTERS[name](name, Path("/opt/tool"))
    commands = tool.encode(QUERY, tmp_path, 7.9)
    assert commands
    for command in commands:
        files = [str(word).removeprefix("N=") for word in command if str(tmp_path) in str(word)]
        assert files
        assert all(Path(file).is_file() for file in files)
    if name == "marabou":
        assert len(commands) == len(QUERY.violation)
        keys = {f"marabou.{k}": str(command[2]) for k, command in enumerate(commands)}
    else:
        keys = {"vnnlib2": str(commands[0][2]), "onnx": str(commands[0][4]).removeprefix("N=")}
    told = TOOLS[name].commands("/opt/tool", keys, 7)
    assert all(command[: len(words)] == words for command, words in zip(commands, told, strict=True))


def test_marabou_never_merges_layers():
    (words,) = TOOLS["marabou"].commands("Marabou", {"marabou.0": "q.ipq"}, 1)
    assert "--no-merge-ws-layers" in words


def test_programs_of_smt_solvers_are_found_under_their_names(tmp_path, monkeypatch):
    names = [name for name, tool in TOOLS.items() if tool.adapter == "smt" and tool.programs]
    assert {"z3", "cvc5"} <= set(names)
    for name in names:
        program = tmp_path / TOOLS[name].programs[0]
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("VERIFLOW_TOOLS", str(tmp_path))
    found = {name: tool.program for name, _, tool in found_tools() if tool is not None and name.startswith("smt:")}
    assert set(found.values()) == {tmp_path / name for name in names}
    assert "smt:cvc5" not in found  # the name of an engine
    assert "smt:z3" in found


def test_bundles_are_written_for_tools_whose_commands_are_known():
    assert set(bundle_tools()) == {name for name, tool in TOOLS.items() if tool.arguments}
