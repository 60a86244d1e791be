"""A process that has imported torch once and forks for every run: ``python -m pytest_brainbrr.zygote``.

Importing torch, and what the first optimizer pulls in, costs 2.5 s of every process; a fork costs milliseconds. The
zygote computes nothing (no OpenMP, no CUDA, no autograd) before it forks, so each child starts from a clean state; its
generators are seeded afresh, as a new interpreter's would be. Limits: children share the interpreter's hash seed, so
runs that must expose an order of sets (``repeat``) come from a second zygote; only where the system can fork.

Protocol, one JSON object per line. In: {"id", "spec", "console", "environment"}. Out: {"id", "pid"}, {"id", "code"}.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn


def main() -> int:
    """Serve until standard input closes; in a forked child, return the run's exit code."""
    # Imported here, so that a child started by `spawn`, which imports this file again, pays nothing.
    # torch._dynamo is what the first optimizer of a process imports.
    for name in ("torch._dynamo", "pytest_brainbrr.observers", "pytest_brainbrr.probes"):
        importlib.import_module(name)
    from pytest_brainbrr.child import execute
    from pytest_brainbrr.spec import Spec
    from pytest_brainbrr.supervisor import supervise

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    requests = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    wake_in, wake_out = os.pipe()
    os.set_blocking(wake_out, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
    running: dict[int, int] = {}
    pending = b""
    # What is imported here is shared with the children and never looked at again: no copies of its pages, no walks.
    gc.collect()
    gc.freeze()
    answers.write(json.dumps({"ready": os.getpid()}) + "\n")
    while True:
        ready, _, _ = select.select([requests, wake_in], [], [])
        if wake_in in ready:
            os.read(wake_in, 4096)
        _reap(running, answers)
        if requests not in ready:
            continue
        data = os.read(requests, 65536)
        if not data:
            return 0
        pending += data
        *lines, pending = pending.split(b"\n")
        for line in lines:
            request = json.loads(line)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (requests, wake_in, wake_out):
                    os.close(descriptor)
                answers.close()
                _become(request)
                supervise(Path(request["spec"]).parent)
                _generators()
                _leave(execute(Spec.read(Path(request["spec"]))))
            running[pid] = int(request["id"])
            answers.write(json.dumps({"id": request["id"], "pid": pid}) + "\n")


def _leave(code: int) -> NoReturn:
    """End a child as the interpreter would, less the taking apart of every module, which costs a second."""
    with contextlib.suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the target may have closed or replaced it
            stream.flush()
    os._exit(code)


def _reap(running: dict[int, int], answers: Any) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        if pid in running:
            answers.write(json.dumps({"id": running.pop(pid), "code": code}) + "\n")


def _become(request: dict[str, Any]) -> None:
    """Turn a fork into what a fresh process would be: console and environment."""
    console = os.open(request["console"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(console, 1)
    os.dup2(console, 2)
    os.close(console)
    wanted = dict(request["environment"])
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)


def _generators() -> None:
    """Seed the generators afresh, as a new interpreter's would be."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


if __name__ == "__main__":
    sys.exit(main())
