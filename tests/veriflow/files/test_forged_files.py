"""Sealed files with anything else in them, as nobody but a forger writes them, give an answer or one sentence."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from cli_runs import run
from shares import by_day

from veriflow.files.sealed import load_tensors
from verify.bab.checkpoint import KIND

VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 3, 10**6, 10**400, 0.5, 1e308, math.nan, math.inf, "", "3", "inf", "1e999999999", "1/0"),
    *([], [1], [[]], {}, {"a": 1}, ["a"] * 3, "9" * 5000),
]
NUMBERS = [math.nan, math.inf, 1e38, -1e38, 1e30, -1e10, 0.0, -1.0, 1e-45, 60.0, -60.0, 29.0]
DTYPES = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool]
NAMES = ["`{}", "{}x", "flow/{}", "", "/", "flow{}"]


def seal(path: Path, kind: object, document: str, tensors: dict[str, torch.Tensor]) -> Path:
    """A file with a seal that fits, whatever it holds."""
    entry = f'{{"sha256": "{"0" * 64}", "version": 1, "kind": {json.dumps(kind)}, "document": {document}}}'
    data = safetensors.torch.save(tensors, {"veriflow": entry})
    path.write_bytes(data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1))
    return path


def places(document: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to each value in a document."""
    parts = document.items() if isinstance(document, dict) else enumerate(document)
    for name, part in parts:
        yield (*before, name)
        if isinstance(part, dict | list):
            yield from places(part, (*before, name))


def altered_document(document: dict[str, Any], chance: random.Random) -> str:
    """The document with another value, or none, somewhere; or with another name."""
    document = json.loads(json.dumps(document))
    *way, last = chance.choice(list(places(document)))
    part: Any = document
    for name in way:
        part = part[name]
    match chance.randrange(8):
        case 0:
            del part[last]
        case 1 if isinstance(part, dict):
            part[f"{last}x"] = part.pop(last)
        case 2:
            return json.dumps(document).replace("{", '{"a":' * 2000 + "{", 1) + "}" * 2000
        case _:
            part[last] = chance.choice(VALUES)
    return json.dumps(document)


def altered_tensors(tensors: dict[str, torch.Tensor], chance: random.Random) -> dict[str, torch.Tensor]:
    """The tensors with one of another name, type, shape or content, or all of another type."""
    found = {name: tensor.clone() for name, tensor in tensors.items()}
    name = chance.choice(list(found))
    tensor = found[name]
    match chance.randrange(7):
        case 0:
            found[name] = tensor.to(chance.choice(DTYPES))
        case 1:
            dtype = chance.choice(DTYPES)
            found = {each: tensor.to(dtype) for each, tensor in found.items()}
        case 2:
            del found[name]
        case 3:
            found[chance.choice(NAMES).format(name)] = found.pop(name)
        case 4:
            found[name] = chance.choice([tensor[None], tensor.reshape(-1)[:0], torch.cat([tensor.reshape(-1)] * 2)])
        case _ if tensor.is_floating_point() and tensor.numel():
            found[name].view(-1)[chance.randrange(tensor.numel())] = chance.choice(NUMBERS)
    return found


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, tuple[str, list[object]]]:
    """A file of each kind: what it is called inside, and the commands that read it."""
    fit = ["fit", folder / "blob.csv", "--label", "kind", "--blocks", 1, "--hidden", 4, "--steps", 100, "--quiet"]
    options = ["--base", "lognormal-mixture", "--householder", 2, "--permute"]
    asked = ["--flow", folder / "flow.safetensors", "--network", folder / "net.onnx", "--property", "y[0] <= 4"]
    verify, certify = (
        ["verify", *asked, "--mass", 0.9, "--with", "bab", "--timeout", 5],
        ["certify", *asked, "--timeout", 5],
    )
    commands: dict[str, tuple[str, list[object]]] = {
        "run": ("training checkpoint", [*fit, "-o", folder / "again.safetensors", "--checkpoint"]),
        "verify": (KIND, [*verify, "--checkpoint"]),
        "certify": (KIND, [*certify, "--checkpoint"]),
        "plain": ("flow", []),
        "other": ("flow", []),
    }
    for name in ("run", "verify", "certify"):
        assert run(*commands[name][1], folder / name).exit_code in (0, 1)
    assert run(*fit, "-o", folder / "plain").exit_code == run(*fit, *options, "-o", folder / "other").exit_code == 0
    return commands


@pytest.mark.parametrize("seed", by_day(range(1024), 8))
@pytest.mark.parametrize("name", ["plain", "other", "run", "verify", "certify"])
def test_forged_files_give_an_answer_or_a_sentence(
    folder: Path, tmp_path: Path, files: dict[str, tuple[str, list[object]]], name: str, seed: int
) -> None:
    chance, (kind, words) = random.Random(f"{name} {seed}"), files[name]  # noqa: S311 - nothing secret
    document, tensors = load_tensors(folder / name, kind)
    content = altered_document(document, chance) if chance.random() < 0.5 else json.dumps(document)
    if chance.random() < 0.6 and tensors:
        tensors = altered_tensors(tensors, chance)
    path = seal(tmp_path / "forged", kind, content, tensors)
    commands: list[list[object]] = [[*words, path]] if words else [["info", path], ["score", path, folder / "blob.csv"]]
    for command in commands:
        result = run(*command)  # which fails where anything but an exit was raised
        assert result.exit_code in (0, 1, 2, 3), result.output
        if result.exit_code == 2:
            assert result.stderr.splitlines()[-1].startswith("error: expected ")


@pytest.mark.parametrize(
    "document",
    ["[" * 50_000 + "]" * 50_000, "9" * 6000, "NaN", '"text"', "{}", '{"hidden": ' + "[" * 90_000 + "]" * 90_000 + "}"],
    ids=["deep", "digits", "nan", "text", "empty", "deep inside"],
)
def test_documents_of_any_form_are_refused(tmp_path: Path, document: str) -> None:
    for kind in ("flow", "x", None):
        result = run("info", seal(tmp_path / "forged", kind, document, {}))
        assert result.exit_code == 2
        assert result.stderr.startswith("error: expected ")


def test_a_flow_of_very_many_layers_is_refused(folder: Path, tmp_path: Path) -> None:
    document, tensors = load_tensors(folder / "flow.safetensors", "flow")
    many = {f"x{i}": torch.zeros(1) for i in range(20_000)}
    for change in ({"hidden": [1] * 10_000}, {"blocks": 10_000}):
        path = seal(tmp_path / "forged", "flow", json.dumps({**document, **change}), {**tensors, **many})
        result = run("info", path)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "expected a flow of at most 4096 layers; got more" in result.stderr
