"""The exit code of a verdict is the verdict's, whatever becomes of standard output and standard error."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_runs import write_network

VERIFLOW = (sys.executable, "-m", "veriflow")
PROPERTY = """(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (and (<= 0 X_0 1) (<= 0 X_1 1) (>= Y_0 {})))"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose first output is from 0 to 2 on the unit square, and files of properties."""
    path = tmp_path_factory.mktemp("codes")
    write_network(path / "net.onnx")
    (path / "holds.vnnlib").write_text(PROPERTY.format(3))
    (path / "violated.vnnlib").write_text(PROPERTY.format(1))
    return path


@contextmanager
def pipe_without_reader() -> Iterator[int]:
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@contextmanager
def full_device() -> Iterator[int]:
    handle = os.open("/dev/full", os.O_WRONLY)
    yield handle
    os.close(handle)


NO_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
FATES = [pipe_without_reader, pytest.param(full_device, marks=NO_FULL)]


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize(("words", "code"), [(["holds.vnnlib"], 0), (["violated.vnnlib", "--json"], 1)])
def test_a_verdict_survives_standard_output(folder: Path, words: list[str], code: int, fate) -> None:  # type: ignore[no-untyped-def]
    command = [*VERIFLOW, "verify", "--network", "net.onnx", "--property", *words]
    with fate() as output:
        done = subprocess.run(command, cwd=folder, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code
    said = "error: expected to be able to write to standard output; got No space left on device\n"
    assert done.stderr == ("" if fate is pipe_without_reader else said)


def closed(redirections: str, *words: str) -> list[str]:
    """The command with descriptors closed by a shell."""
    return ["sh", "-c", f'exec "$@" {redirections}', "sh", *VERIFLOW, *words]


def test_a_verdict_survives_closed_descriptors(folder: Path) -> None:
    words = ["verify", "--network", "net.onnx", "--property", "holds.vnnlib", "--checkpoint", "search"]
    done = subprocess.run(closed(">&-", *words), cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("error: expected to be able to write to standard output; got ")
    assert done.stderr.count("\n") == 1
    words[4] = "violated.vnnlib"
    (folder / "search").unlink()
    assert subprocess.run(closed("<&- >&- 2>&-", *words), cwd=folder, check=False).returncode == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--help"], 0), (["solver", "supports", "--vnnlib-versions"], 0), (["solver", "supports", "nothing"], 2)],
)
def test_other_commands_end_quietly_where_nobody_reads(words: list[str], code: int) -> None:
    with pipe_without_reader() as output:
        done = subprocess.run([*VERIFLOW, *words], stdout=output, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == code
        assert done.stderr.count("\n") == (1 if code else 0)
        assert subprocess.run([*VERIFLOW, *words], stdout=output, stderr=output, check=False).returncode == code


def test_characters_that_the_encoding_lacks_are_no_failure() -> None:
    done = subprocess.run(
        [*VERIFLOW, "solvers", "--help"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert b"?" in done.stdout
    assert done.stderr == b""
