"""Stand between a run and its parent, so that nothing that a run starts outlives it. Linux only; no threads, no torch.

The supervisor adopts what a run's processes leave behind (PR_SET_CHILD_SUBREAPER), also in sessions of their own, and
ends all of it when the run ends, when it is told to (SIGTERM), and when its parent dies. It passes SIGUSR1 on, for
stacks. A run whose target has returned, and whose processes then do nothing at all, is not waited for.
"""

import ctypes
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

CAN = sys.platform == "linux"
RETURNED, END = "returned", "end.json"
"""Files in the folder of a run: the target has returned, and how long it may idle; how the run's process ended."""
IDLE_S = 20.0
"""How long the threads and processes of a run whose target has returned may do nothing."""
POLL_S = 0.5
IDLE_TICKS = 1
"""Clock ticks of work in that time which still count as nothing."""
STACKS_S = 0.5
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
HEARD = (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1) if CAN else ()


def supervise(home: Path) -> None:
    """Split this process, which must have one thread: returns in the run's own process, never in the supervisor."""
    parent = os.getppid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be listened for
        os._exit(1)
    main = os.fork()
    if main == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.setsid()
        return
    _leave(home, **_watch(main, home))


def _watch(main: int, home: Path) -> dict[str, Any]:
    """Wait for the end of the run and say how it came."""
    codes: dict[int, int] = {}
    done, since, idle = -1, time.monotonic(), False
    while main not in codes:
        heard = signal.sigtimedwait(HEARD, POLL_S)
        if heard is not None and heard.si_signo == signal.SIGTERM:
            _end(codes)
        elif heard is not None and heard.si_signo == signal.SIGUSR1:
            _signal(main, signal.SIGUSR1)
        _reap(codes)
        patience = _patience(home)
        if main in codes or patience is None:
            since = time.monotonic()
            continue
        now = sum(ticks for _, ticks in _descendants().values())
        if now > done + IDLE_TICKS:
            done, since = now, time.monotonic()
        if time.monotonic() - since > patience:
            idle = True
            _signal(main, signal.SIGUSR1)
            time.sleep(STACKS_S)
            break
    left = [_command(pid) for pid in _descendants() if pid != main]
    _end(codes)
    return {"code": codes.get(main, -signal.SIGKILL), "idle": idle, "left": list(filter(None, left))}


def _patience(home: Path) -> float | None:
    """Return how long the run may do nothing from now on, None while its target runs."""
    try:
        return float((home / RETURNED).read_text(encoding="utf-8") or IDLE_S)
    except (OSError, ValueError):
        return None


def _leave(home: Path, **how: Any) -> NoReturn:
    with suppress(OSError):  # a full disk: the parent has our exit status
        (home / END).write_text(json.dumps(how), encoding="utf-8")
    os._exit(how["code"] if how["code"] >= 0 else 128 - how["code"])


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _reap(codes: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            codes[pid] = os.waitstatus_to_exitcode(status)


def _end(codes: dict[int, int]) -> None:
    """Kill everything below this process; what it leaves behind becomes ours, and is killed in the next round."""
    until = time.monotonic() + 5.0
    while time.monotonic() < until:
        _reap(codes)
        found = _descendants()
        if not found:
            return
        for pid in found:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.01)


def _descendants() -> dict[int, tuple[int, int]]:
    """Return the processes below this one -> their parent, and their clock ticks of work."""
    everybody: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 (plain names, many of them)
        if name.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    fields = file.read().rpartition(b")")[2].split()
                everybody[int(name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    found: dict[int, tuple[int, int]] = {}
    waiting = [os.getpid()]
    for parent in waiting:
        below = {pid: facts for pid, facts in everybody.items() if facts[0] == parent}
        found |= below
        waiting += below
    return found


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        text = " ".join(word.decode("utf-8", "replace") for word in words if word)[:200]
        return "a fork of it" if "pytest_brainbrr" in text else text
    return ""
