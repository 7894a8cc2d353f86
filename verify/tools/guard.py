"""A script in a process of its own: runs one program, and ends everything that this has started.

Arguments: bytes of data that each process may hold, seconds of processor time, seconds between asking to end and killing,
the program and its arguments. The program is started in a session of its own. It is ended once standard input is closed,
which the death of whoever holds the other end does too, or on SIGTERM, SIGINT or SIGHUP; then, and when it ends by itself,
so is everything that it started: on Linux also what left its session and lost its parent, which becomes a child of this
process (PR_SET_CHILD_SUBREAPER of prctl(2)). Ends as the program did. It imports nothing of veriflow.
"""

import ctypes
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # from linux/prctl.h
_TICK = 0.02  # seconds between looks at processes that were asked to end
_PATIENCE = 5.0  # seconds after which processes that cannot be killed are left to themselves


def guard(limits: dict[int, int], grace: float, command: list[str]) -> int:
    """Run a program under limits of `resource`; how it ended, as `os.waitstatus_to_exitcode` has it."""
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        with suppress(ValueError, OSError):
            least = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (least, least))
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    _prctl(_SET_SUBREAPER, 1)
    leader = _started(command)
    status: int | None = None
    while status is None:
        ready, _, _ = select.select([0, wake], [], [])
        is_over = 0 in ready or bool(set(os.read(wake, 512)) - {signal.SIGCHLD} if wake in ready else ())
        status = _reaped().get(leader)
        if status is None and is_over:
            return _ended(leader, grace)
    _ended(leader, 0)
    return status


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _started(command: list[str]) -> int:
    """The program's process, which dies with this one."""
    own = os.getpid()
    leader = os.fork()  # nothing else runs in this process
    if leader:
        os.close(1)
        os.close(2)
        return leader
    try:
        os.setsid()
        _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() == own:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execvp(command[0], command)  # noqa: S606 - the program that the user named
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _reaped() -> dict[int, int]:
    """Exit codes of children that have ended."""
    codes: dict[int, int] = {}
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            codes[found[0]] = os.waitstatus_to_exitcode(found[1])
    return codes


def _ended(leader: int, grace: float) -> int:
    """End all processes, first politely, and wait for them; how the leader ended."""
    code, deadline = -int(signal.SIGKILL), time.monotonic() + grace
    last = deadline + _PATIENCE
    _signal(leader, signal.SIGTERM)
    while True:
        codes = _reaped()
        if leader in codes:
            code, deadline = codes[leader], 0.0
        now = time.monotonic()
        if not _signal(leader, signal.SIGKILL if now >= deadline else 0) or now >= last:
            return code
        time.sleep(_TICK)


def _signal(leader: int, number: int) -> bool:
    """Send a signal to all processes; whether there are any."""
    members = _descendants()
    found = bool(members)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
        found = True
    for member in members:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(member, number)
    return found


def _descendants() -> set[int]:
    """Those of this process that have not ended; none where there is no /proc."""
    below: dict[int, list[int]] = {}
    ended: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            state, parent, *_ = entry.read_text(errors="replace").rpartition(")")[2].split()
            below.setdefault(int(parent), []).append(int(entry.parent.name))
            if state == "Z":
                ended.add(int(entry.parent.name))
    found: set[int] = set()
    ahead = [os.getpid()]
    while ahead:
        children = below.get(ahead.pop(), [])
        found.update(children)
        ahead += children
    return found - ended


if __name__ == "__main__":
    data, processor, pause, *words = sys.argv[1:]
    ending = guard({resource.RLIMIT_DATA: int(data), resource.RLIMIT_CPU: int(processor)}, float(pause), words)
    if ending < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):
            signal.signal(-ending, signal.SIG_DFL)
        os.kill(os.getpid(), -ending)
    os._exit(ending)
