"""What is written over, and what stays: devices, pipes, links, modes, and scratches of processes that died."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from veriflow.errors import StorageError
from veriflow.files.scratch import exchange
from veriflow.files.whole_files import write_atomically, write_folder_atomically

FULL = Path("/dev/full")
MANIFEST = json.dumps({"format": "veriflow test"})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(path: Path, **files: str) -> None:
    with write_folder_atomically(path) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)
        (folder / "manifest.json").write_text(MANIFEST)


def test_devices_are_written_into(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to(os.devnull)
    write_atomically(tmp_path / "null", "text")
    assert names(tmp_path) == ["null"]
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_device_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to(FULL)
    with pytest.raises(StorageError, match="No space left"):
        write_atomically(tmp_path / "full", "text")
    assert stat.S_ISCHR((tmp_path / "full").stat().st_mode)


def test_pipes_are_written_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_atomically(tmp_path / "pipe", b"x" * 10**6)
    reader.join()
    assert read == [b"x" * 10**6]
    assert names(tmp_path) == ["pipe"]


def test_what_standard_output_leads_to_is_not_replaced(tmp_path: Path) -> None:
    code = "from veriflow.files.whole_files import write_atomically; write_atomically('/dev/stdout', 'new')"
    with (tmp_path / "log").open("a") as log:
        log.write("old, ")
        log.flush()
        subprocess.run([sys.executable, "-c", code], stdout=log, check=True)
    assert (tmp_path / "log").read_text() == "old, new"


def test_links_stay_and_lead_to_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    for text in ("new", "newer"):  # at first the link leads to nothing
        write_atomically(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there" / "file").read_text() == text
    write_folder(tmp_path / "folder", x="1")
    (tmp_path / "other").symlink_to("folder")
    write_folder(tmp_path / "other", x="2")
    assert (tmp_path / "other").is_symlink()
    assert (tmp_path / "folder" / "x").read_text() == "2"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StorageError, match="expected to be able to write"):
        write_atomically(tmp_path / "loop", "text")
    with pytest.raises(StorageError, match="expected to be able to write"):
        write_folder(tmp_path / "loop")
    assert (tmp_path / "loop").is_symlink()
    assert names(tmp_path) == ["folder", "link", "loop", "other", "there"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_modes_are_kept(tmp_path: Path, mode: int) -> None:
    write_atomically(tmp_path / "a", "old")
    write_folder(tmp_path / "b")
    for path in (tmp_path / "a", tmp_path / "b"):
        path.chmod(mode | 0o700 * path.is_dir())
    write_atomically(tmp_path / "a", "new")
    write_folder(tmp_path / "b", x="1")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == mode | 0o700


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_what_may_not_be_written_stays(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "old")
    (tmp_path / "a").chmod(0o400)
    with pytest.raises(StorageError, match="Permission denied"):
        write_atomically(tmp_path / "a", "new")
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        write_atomically(tmp_path / "b", "new")
    with pytest.raises(StorageError, match="Permission denied"):
        write_folder(tmp_path / "c")
    tmp_path.chmod(0o700)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_one_whole_version_of_a_folder_stands_there_at_every_moment(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    if not exchange(tmp_path / "x", tmp_path / "y"):
        pytest.skip("this file system cannot exchange names")
    target, is_over, missing = tmp_path / "out", threading.Event(), 0
    write_folder(target, part="0")

    def write_again() -> None:
        for k in range(1, 200):
            write_folder(target, part=str(k))
        is_over.set()

    writer = threading.Thread(target=write_again)
    writer.start()
    while not is_over.is_set():
        try:
            handle = os.open(target, os.O_RDONLY)
        except FileNotFoundError:
            missing += 1
            continue
        os.close(handle)
        missing += not (target / "manifest.json").is_file()
    writer.join()
    assert missing == 0
    assert (target / "part").read_text() == "199"
    assert names(tmp_path) == ["out", "x", "y"]


WRITING = """
import sys, time
from veriflow.files import whole_files as files
def wait(*_):
    print("writing", flush=True)
    time.sleep(600)
path = sys.argv[1]
if sys.argv[2] == "file":
    files.os.fsync = wait
    files.write_atomically(path, "half")
with files.write_folder_atomically(path) as folder:
    (folder / "a").write_text("half")
    wait()
"""


@contextmanager
def writer(path: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a write."""
    process = subprocess.Popen([sys.executable, "-c", WRITING, str(path), kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_scratches_of_the_dead_go_with_the_next_write_and_those_of_the_living_stay(tmp_path: Path, kind: str) -> None:
    with writer(tmp_path / "a", kind) as living:
        with writer(tmp_path / "a", kind) as dead:
            first = set(names(tmp_path))
            assert len(first) == 2
            write_atomically(tmp_path / "b", "text")
            assert set(names(tmp_path)) == first | {"b"}
            dead.send_signal(signal.SIGKILL)
            dead.wait()
        assert len(names(tmp_path)) == 3
        write_folder(tmp_path / "c")
        (left,) = set(names(tmp_path)) - {"b", "c"}
        assert left in first
        living.send_signal(signal.SIGKILL)
        living.wait()
    write_atomically(tmp_path / "b", "text")
    assert names(tmp_path) == ["b", "c"]


def test_what_only_looks_like_a_scratch_stays(tmp_path: Path) -> None:
    with writer(tmp_path / "a", "file"):
        (name,) = names(tmp_path)
    machine = name.split(".")[2]
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "thesis").write_text("precious")
    others = [".a.0000000f.0123456789ab.part", f".a.{machine}.0123.part", f"a.{machine}.0123456789ab.part", ".a.part"]
    for other in others:
        (tmp_path / other).write_text("another's")
    link, pipe = (f".a.{machine}.{digit * 12}.part" for digit in "12")
    (tmp_path / link).symlink_to("kept")
    os.mkfifo(tmp_path / pipe)
    write_atomically(tmp_path / "a", "text")
    assert names(tmp_path) == sorted(["a", "kept", link, pipe, *others])
    assert (tmp_path / "kept" / "thesis").exists()
