"""What stands in several files of the project stands there alike."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import veriflow

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_there_is_one_version():
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert (PROJECT["version"], cited[1]) == (veriflow.__version__, veriflow.__version__)


def test_the_hooks_before_a_commit_are_those_of_make_lint():
    hooks = re.findall(r"entry: \.venv/bin/(\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert hooks == re.findall(r"\$\(BIN\)/(\S+)", lint[1])


def test_every_dependency_has_a_version_that_was_run():
    named = [*PROJECT["dependencies"], *(d for extra in PROJECT["optional-dependencies"].values() for d in extra)]
    names = {re.match(r"[\w-]+", dependency)[0].lower() for dependency in named} - {PROJECT["name"]}
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert names - pinned == set()


def test_the_image_gets_all_that_an_installation_needs():
    taken = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    packages = {"veriflow", "exporters", "verify"}
    assert taken == packages | {"pyproject.toml", "constraints.txt", *PROJECT["license-files"], PROJECT["readme"]}
