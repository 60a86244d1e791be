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


def execute(spec: Spec, home: Path, *, timeout_s: float, fresh: bool) -> dict[str, Any]:
    """Run a spec (``home/spec.json``, console to ``home/console.txt``) and say how its process ended.

    Args:
        spec: What to run.
        home: Folder of the run.
        timeout_s: After this many seconds the process and whatever it started are killed.
        fresh: Whether its interpreter must not be a twin of the other runs' (forks of one process share a hash seed).
    """
    environment = environment_of(spec)
    zygote = Zygote.shared(environment, fresh=fresh)
    if zygote is not None and zygote.is_ready():
        return zygote.execute(home, environment, timeout_s)
    return _plainly(home, environment, timeout_s)


def start_early(spec: Spec) -> None:
    """Start what :func:`execute` will need for a fresh run, so that it imports torch while another run is under way."""
    Zygote.shared(environment_of(spec), fresh=True)


def _plainly(home: Path, environment: Mapping[str, str], timeout_s: float) -> dict[str, Any]:
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
    try:
        return {"how": "ended", "code": process.wait(timeout=timeout_s)}
    except subprocess.TimeoutExpired:
        _ask_for_stacks(process.pid)
        return _timeout(timeout_s)
    finally:
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

    def execute(self, home: Path, environment: Mapping[str, str], timeout_s: float) -> dict[str, Any]:
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
        began, pid = time.monotonic(), 0
        try:
            while True:
                answer = answers.get(timeout=max(0.01, timeout_s - (time.monotonic() - began)))
                pid = answer.get("pid", pid)
                if "code" in answer:
                    return {"how": "ended", "code": answer["code"]}
        except queue.Empty:
            if pid:
                _ask_for_stacks(pid)
            return _timeout(timeout_s)
        finally:
            if pid:
                _end_group(pid)

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


def _end_group(pid: int) -> None:
    """End a process and whatever it started and left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
