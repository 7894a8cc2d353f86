"""Files and folders are written whole or not at all."""

import ctypes
import errno
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from veriflow.errors import StorageError
from veriflow.files.scratch import exchange
from veriflow.files.whole_files import write_atomically, write_folder_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    write_atomically(tmp_path / "a.txt", "größer")
    write_atomically(str(tmp_path / "a.txt"), b"bytes")
    assert (tmp_path / "a.txt").read_bytes() == b"bytes"
    assert names(tmp_path) == ["a.txt"]


def test_text_is_utf8(tmp_path):
    write_atomically(tmp_path / "a.txt", "größer")
    assert (tmp_path / "a.txt").read_bytes() == "größer".encode()


def test_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"expected to be able to write .*b\.txt.*; got No such file"):
        write_atomically(tmp_path / "missing" / "b.txt", "x")
    assert names(tmp_path) == []


def test_a_full_disk_leaves_the_older_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_atomically(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_appears_when_complete(tmp_path):
    with write_folder_atomically(tmp_path / "out") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "out").exists()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["x"]


@pytest.mark.parametrize("error", [KeyError("boom"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_failure_half_way_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)), write_folder_atomically(tmp_path / "out") as folder:
        (folder / "x").write_text("1")
        raise error
    assert names(tmp_path) == []


def test_an_operating_system_error_half_way_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No space left"), write_folder_atomically(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_an_empty_or_own_folder_is_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    for text in ("1", "2"):
        with write_folder_atomically(tmp_path / "out") as folder:
            (folder / "manifest.json").write_text(json.dumps({"format": "veriflow test"}))
            (folder / f"x{text}").write_text(text)
        assert names(tmp_path / "out") == ["manifest.json", f"x{text}"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("manifest", [None, "{}", "not json", "[]", '{"format": "another tool"}'])
def test_a_foreign_folder_is_kept(tmp_path, manifest):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    if manifest is not None:
        (tmp_path / "out" / "manifest.json").write_text(manifest)
    with pytest.raises(StorageError, match="empty or written by veriflow"), write_folder_atomically(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"
    assert names(tmp_path) == ["out"]


def test_a_file_in_the_way_is_kept(tmp_path):
    (tmp_path / "out").write_text("file")
    with pytest.raises(StorageError, match="a folder or absent"), write_folder_atomically(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert (tmp_path / "out").read_text() == "file"


def test_a_foreign_folder_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(StorageError, match="empty or written by veriflow"), write_folder_atomically(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("precious")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["thesis.txt"]


def test_a_file_that_may_not_be_written_is_kept(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match="Permission denied"):
        write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="other systems exchange no names")
def test_folders_exchange_names_or_the_system_says_why_not(tmp_path, monkeypatch):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    with pytest.raises(FileNotFoundError):
        exchange(one, other)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace())
    assert not exchange(one, other)
    for number in (errno.ENOSYS, errno.EINVAL):
        monkeypatch.setattr(ctypes, "get_errno", lambda number=number: number)
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(renameat2=refuse, renamex_np=refuse))
        assert not exchange(one, other)
    assert names(tmp_path) == ["one"]


def refuse(*_):
    return -1


@pytest.fixture
def without_exchange(monkeypatch):
    """As on file systems that cannot exchange names."""
    monkeypatch.setattr("veriflow.files.whole_files.exchange", lambda one, other: False)


def test_folders_are_replaced_by_turns_where_names_cannot_be_exchanged(tmp_path, without_exchange):
    test_an_empty_or_own_folder_is_replaced(tmp_path)


def test_the_older_folder_keeps_its_name_where_the_swap_fails(tmp_path, monkeypatch, without_exchange):
    with write_folder_atomically(tmp_path / "out") as folder:
        (folder / "manifest.json").write_text('{"format": "veriflow old"}')
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".part") and (self / "new").exists():
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(StorageError, match="Input/output"), write_folder_atomically(tmp_path / "out") as folder:
        (folder / "new").write_text("")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["manifest.json"]
