"""What is no file, or too large, is refused in a sentence before it is read."""

import io
import os
import socket
import zipfile

import numpy as np
import pytest

from veriflow.errors import StorageError
from veriflow.files.array_files import Archive, array_from_npy
from veriflow.files.whole_files import open_file, read_bytes


def test_files_and_links_to_files_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"some bytes")
    (tmp_path / "link").symlink_to("a")
    assert read_bytes(tmp_path / "a") == read_bytes(str(tmp_path / "link")) == b"some bytes"
    assert read_bytes(tmp_path / "a", most=10) == b"some bytes"
    with open_file(tmp_path / "a") as stream:
        assert stream.read(4) == b"some"


def make_folder(path):
    path.mkdir()


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def make_huge(path):
    with path.open("wb") as stream:
        stream.truncate(2**40)


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda path: None, "expected a file at .*; got none"),
        (make_folder, "expected a file at .*; got a folder"),
        (os.mkfifo, "expected a file at .*; got a pipe"),
        (make_socket, "expected a file at .*; got a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "expected a file at .*; got a device"),
        (lambda path: path.symlink_to("nowhere"), "expected a file at .*; got none"),
        (lambda path: path.symlink_to(path), "expected to be able to read .*; got "),
        (make_huge, "expected at most 1073741824 bytes in .*; got 1099511627776"),
    ],
    ids=["missing", "folder", "pipe", "socket", "device", "broken link", "link to itself", "huge"],
)
def test_what_is_no_file_or_too_large_is_refused(make, got, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's name must be short
    path = tmp_path.joinpath("x").relative_to(tmp_path)
    make(path)
    for read in (read_bytes, lambda path: open_file(path).__enter__()):
        with pytest.raises(StorageError, match=got):
            read(path)


def test_errors_while_reading_are_named(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with (
        pytest.raises(StorageError, match=r"expected to be able to read .*; got Input/output"),
        open_file(tmp_path / "a"),
    ):
        raise OSError(5, "Input/output error")


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return stream.getvalue()


ARRAYS = {
    "X": np.arange(6.0).reshape(2, 3),
    "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "y": np.array(["a", "größer"]),
    "none": np.zeros((0, 3)),
    "one": np.array(7),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back(save):
    stream = io.BytesIO()
    save(stream, **ARRAYS)
    archive = Archive(stream.getvalue())
    assert list(archive) == list(ARRAYS)
    for name, array in ARRAYS.items():
        for found in (archive[name], array_from_npy(npy(array))):
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)


def promising(shape, size=24):
    """A file whose header says another shape than it has."""
    whole = npy(np.zeros(size // 8))
    before = f"({size // 8},), }}".encode()
    after = f"{shape}, }}".encode()
    return whole.replace(before + b" " * (len(after) - len(before)), after, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing",
        npy(ARRAYS["X"])[:-1],
        npy(ARRAYS["X"]) + b"x",
        promising("(10000000000000,)"),
        promising("(-3, -1)"),
        promising("(0, 10000000000000)", 0),
        npy(np.array([{}], dtype=object)),
    ],
    ids=["empty", "foreign", "cut short", "too long", "huge", "negative", "huge and empty", "objects"],
)
def test_arrays_that_are_not_there_are_refused(data):
    with pytest.raises(StorageError, match=r"expected a whole \.npy file; got: "):
        array_from_npy(data)
    with pytest.raises(StorageError, match=r"expected a whole array 'X' of an \.npz file; got: "):
        Archive(npz({"X.npy": data}))["X"]


def test_bombs_are_not_unpacked():
    zeros = npy(np.zeros(10**6))
    bomb = npz({f"x{i}.npy": zeros for i in range(3)})
    assert len(bomb) < 10**5
    archive = Archive(bomb, most=2 * len(zeros))
    for name in ("x0", "x1"):
        assert archive[name].shape == (10**6,)
    with pytest.raises(StorageError, match="expected arrays of fewer bytes; got 8000128 in 'x2'"):
        archive["x2"]
    lying = bomb.replace(len(zeros).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    with pytest.raises(StorageError, match="expected a whole array"):
        Archive(lying)["x0"]
    with pytest.raises(StorageError, match="stored or deflated"):
        Archive(npz({"X.npy": zeros}, zipfile.ZIP_LZMA))["X"]
    with pytest.raises(StorageError, match=r"expected an \.npz file of at most 100000 arrays; got more"):
        Archive(npz({str(i): b"" for i in range(100_001)}))
    for data in (b"", b"PK", npz({"X.npy": zeros})[:-20]):
        with pytest.raises(StorageError, match=r"expected a whole \.npz file; got: "):
            Archive(data)
