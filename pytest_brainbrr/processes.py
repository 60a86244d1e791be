"""Start the processes of runs, from the parent: forked from a zygote where that is safe, else plainly."""

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pytest_brainbrr.spec import Spec
from pytest_brainbrr.supervisor import CAN, END

GRACE_S = 5.0
START_S = 120.0
BEFORE_IMPORT = (
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "OPENBLAS_",
    "CUDA_",
    "TORCH",
    "PYTORCH",
    "PYTHON",
    "LD_",
    "MALLOC_",
    "ATEN_",
)
"""Beginnings of variables that are read when torch is imported: a fork would come too late for them."""
BY_FORK = sys.platform == "linux"


def environment_of(spec: Spec) -> dict[str, str]:
    """Return the environment of a run: the parent's, the spec's, and what keeps idle threads from burning cores."""
    found = {**os.environ, **spec.environment}
    found.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    found.setdefault("PYTHONUNBUFFERED", "1")
    return found


def execute(spec: Spec, home: Path, *, timeout_s: float, fresh: bool, running: "Running") -> dict[str, Any]:
    """Run a spec (``home/spec.json``, console to ``home/console.txt``) and say how its process ended.

    Args:
        spec: What to run.
        home: Folder of the run.
        timeout_s: After this many seconds the process and whatever it started are killed.
        fresh: Whether its interpreter must not be a twin of the other runs' (forks of one process share a hash seed).
        running: Where to note its process.
    """
    environment = environment_of(spec)
    zygote = Zygote.shared(environment, fresh=fresh)
    if zygote is not None and zygote.is_ready():
        how = zygote.execute(home, environment, timeout_s, running)
    else:
        how = _plainly(home, environment, timeout_s, running)
    with contextlib.suppress(OSError, ValueError):  # it may be missing, or cut short by a full disk
        facts = json.loads((home / END).read_text(encoding="utf-8"))
        how = {**facts, **(how if how["how"] == "timeout" else {"how": "ended"})}
    return how


class Running:
    """The runs of one caller that are under way, so that they can be ended together."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._lock = threading.Lock()
        self.over = False

    def add(self, pid: int) -> None:
        """Note the process of a run; it ends at once if the others were ended already."""
        with self._lock:
            self._pids.add(pid)
            if self.over:
                _end(pid)

    def discard(self, pid: int) -> None:
        """Forget the process of a run that has ended."""
        with self._lock:
            self._pids.discard(pid)

    def end(self) -> None:
        """End all of them, and those still to come: whoever waits for one sees it end."""
        with self._lock:
            self.over = True
            for pid in self._pids:
                _end(pid)


def start_early(spec: Spec) -> None:
    """Start what :func:`execute` will need for a fresh run, so that it imports torch while another run is under way."""
    Zygote.shared(environment_of(spec), fresh=True)


def _plainly(home: Path, environment: Mapping[str, str], timeout_s: float, running: Running) -> dict[str, Any]:
    command = [sys.executable, "-m", "pytest_brainbrr.child", str(home / "spec.json")]
    with (home / "console.txt").open("wb") as console:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running.add(process.pid)
    try:
        return {"how": "ended", "code": process.wait(timeout=timeout_s)}
    except subprocess.TimeoutExpired:
        _ask_for_stacks(process.pid)
        return _timeout(timeout_s)
    finally:
        running.discard(process.pid)
        if process.poll() is None:
            _end(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_S)
        _end_group(process.pid)
        process.wait(timeout=GRACE_S)


class Zygote:
    """The parent's end of a process that forks on request."""

    _shared: ClassVar[dict[bool, "Zygote"]] = {}
    _guard = threading.Lock()

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.settings = _settings(environment)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest_brainbrr.zygote"],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {0: queue.Queue()}
        self._next = 1
        self._lock = threading.Lock()
        self._ready: bool | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @classmethod
    def shared(cls, environment: Mapping[str, str], *, fresh: bool) -> "Zygote | None":
        """Return the zygote of this process for such runs, started now if there is none; None where none can serve."""
        if not BY_FORK:
            return None
        with cls._guard:
            zygote = cls._shared.get(fresh)
            # One that ended before it was ready would do so again: torch cannot be imported there.
            if zygote is None or (zygote._ready and zygote._process.poll() is not None):
                zygote = cls._shared[fresh] = cls(environment)
                atexit.register(zygote.close)
            return zygote if zygote.settings == _settings(environment) else None

    def is_ready(self) -> bool:
        """Wait until torch is imported there and say whether it could be; if not, the run itself will say why."""
        with self._lock:
            if self._ready is None:
                try:
                    self._ready = "code" not in self._answers[0].get(timeout=START_S)
                except queue.Empty:
                    self._ready = False
            return self._ready

    def execute(self, home: Path, environment: Mapping[str, str], timeout_s: float, running: Running) -> dict[str, Any]:
        """Have a run forked and wait for its end."""
        answers: queue.Queue[dict[str, Any]] = queue.Queue()
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._answers[number] = answers
            request = {
                "id": number,
                "spec": str(home / "spec.json"),
                "console": str(home / "console.txt"),
                "environment": dict(environment),
            }
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        until, pid, ended = time.monotonic() + timeout_s, 0, False

        def wait(until: float) -> int:
            nonlocal pid, ended
            while True:
                answer = answers.get(timeout=max(0.01, until - time.monotonic()))
                if "code" in answer:
                    ended = True
                    return int(answer["code"])
                pid = int(answer["pid"])
                running.add(pid)

        try:
            return {"how": "ended", "code": wait(until)}
        except queue.Empty:
            if pid:
                _ask_for_stacks(pid)
            return _timeout(timeout_s)
        finally:
            running.discard(pid)
            if pid and not ended:
                _end(pid)
                with contextlib.suppress(queue.Empty):
                    wait(time.monotonic() + GRACE_S)

    def close(self) -> None:
        """End the zygote."""
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=GRACE_S)
        _end_group(self._process.pid)
        self._listener.join(GRACE_S)
        if not self._listener.is_alive() and self._process.stdout is not None:
            self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            self._answers[int(answer.get("id", 0))].put(answer)
        for number, answers in list(self._answers.items()):
            answers.put({"id": number, "code": -signal.SIGKILL})


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(BEFORE_IMPORT)}


def _timeout(timeout_s: float) -> dict[str, Any]:
    return {"how": "timeout", "code": 124, "message": f"not finished after {timeout_s:g} s"}


def _ask_for_stacks(pid: int) -> None:
    """Have the stacks of all threads written to the console before the end."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.5)


def _end(pid: int) -> None:
    """End a run: its supervisor ends all that it started."""
    if CAN:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    else:
        _end_group(pid)


def _end_group(pid: int) -> None:
    """End a process and whatever it started and left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
