"""One run of a target in a process of its own: ``python -m pytest_brainbrr.child SPEC``.

The observers are in place before any code of the target is imported or unpickled. The process ends with the code that
the target's own process would have had, so far as there is one.
"""

import contextlib
import faulthandler
import gc
import multiprocessing.process
import os
import pickle
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_brainbrr import ranks
from pytest_brainbrr.mirror import WriteGuard
from pytest_brainbrr.spec import Spec
from pytest_brainbrr.supervisor import CAN, IDLE_S, RETURNED, supervise
from pytest_brainbrr.targets import Run
from pytest_brainbrr.touching import touch

WORK_S = 0.05
"""Seconds of work, between two looks of a tenth of a second, that show that threads do something."""
THREADS_S = 3.0
"""How long threads and processes of a run that was stopped are waited for: the word that ends them never came."""
PACKAGES = ("torch", "numpy", "lightning", "pytorch-lightning", "accelerate", "transformers", "brainbrr")


def main(arguments: list[str]) -> int:
    """Run what the spec says and return the exit code."""
    spec = Spec.read(Path(arguments[0]))
    if CAN:
        supervise(Path(arguments[0]).parent)
    return execute(spec)


def execute(spec: Spec) -> int:
    """Run a target as the spec says, watched or not, and return the exit code."""
    _settle(spec)
    if not spec.watched:
        code = int(_outcome(lambda: _call(spec))["code"])
        _wait_for_threads(lambda: 0)
        _say_returned(spec, IDLE_S)
        return code
    from pytest_brainbrr.observers import install
    from pytest_brainbrr.observers.limit import Limit
    from pytest_brainbrr.probes import Probes
    from pytest_brainbrr.rereading import Rereading

    watch = install(Path(spec.trace), Path(spec.workdir))
    # A census of tensors walks over all objects; torch's own, half a million, need not be among them.
    gc.freeze()
    _tell(watch, spec)
    probes = Probes(watch, spec)
    probes.install()
    _interfere(watch, spec)
    rereading = Rereading(watch, spec)
    rereading.install()

    def at_limit() -> None:
        probes.at_limit()
        rereading.run()

    limit = Limit(watch, spec.limit, before=at_limit)
    limit.install()
    if spec.limit == 0 and spec.resume_from is not None:
        limit.wait_for(spec.resume_from)
    began, spent = time.perf_counter(), watch.seconds
    try:
        outcome = _outcome(lambda: _call(spec, watch))
        hanging = [] if limit.reached else _wait_for_threads(lambda: watch.n)
        outcome["seconds"] = time.perf_counter() - began - (IDLE_S if hanging else 0.0)
        outcome["observing_seconds"] = watch.seconds - spent
        if limit.reached and outcome["how"] in {"stopped", "returned", "system_exit"}:
            outcome.update(how="stopped", code=0)
        watch.after = False
        if not limit.reached:
            for callback in watch.on_end:
                callback()
            probes.at_end()
            rereading.run()
        watch.emit("exit", **outcome, last_lines=[], lingered=hanging, steps=watch.borders)
    finally:
        watch.close()
    _say_returned(spec, THREADS_S if limit.reached else IDLE_S)
    if limit.reached or hanging:
        _leave_threads_behind(int(outcome["code"]))
    return int(outcome["code"])


def _settle(spec: Spec) -> None:
    """Make this process the target's: its folder, its variables, its modules."""
    if hasattr(signal, "SIGUSR1"):
        # The parent asks for the stacks before it kills a run that takes too long.
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.chdir(spec.cwd)
    # Where started processes look for a relative script; a fork of the zygote has the parent's folder there.
    multiprocessing.process.ORIGINAL_DIR = os.getcwd()  # type: ignore[attr-defined]  # noqa: PTH109
    os.environ.update(spec.environment)
    sys.path[:] = [*spec.sys_path, *(path for path in sys.path if path not in spec.sys_path)]
    ranks.announce(spec)


def _tell(watch: Any, spec: Spec) -> None:
    """Write down what this process is and what it was told."""
    watch.emit(
        "process",
        versions={"python": sys.version.split()[0], **_versions()},
        argv=list(spec.script[1:]) if spec.script else [],
        cwd=spec.cwd,
        plan=spec.plan,
        seed=spec.seed,
        max_steps=spec.max_steps,
        resume_from=watch.path(spec.resume_from),
        data=spec.data,
        limit=spec.limit,
        workdir=spec.workdir,
        cut=spec.cut is not None,
    )


def _interfere(watch: Any, spec: Spec) -> None:
    """Install what changes the run, in the plans that ask for it."""
    from pytest_brainbrr.canary import Canary
    from pytest_brainbrr.cutting import Cutting
    from pytest_brainbrr.relabeling import PaddedLabels, Relabeling

    if spec.data == "canary":
        Canary(watch).install()
    if spec.relabel:
        (PaddedLabels if spec.plan == "padded" else Relabeling)(watch, spec.relabel).install()
    if spec.cut is not None:
        Cutting(watch, spec.cut).install()


def _say_returned(spec: Spec, patience_s: float) -> None:
    """Tell the supervisor: what the target has started is waited for as long as it does something."""
    with contextlib.suppress(OSError):
        partial = Path(spec.trace).parent / f"{RETURNED}.part"
        partial.write_text(str(patience_s), encoding="utf-8")
        partial.replace(partial.with_suffix(""))


def _wait_for_threads(events: Callable[[], int]) -> list[str]:
    """Wait, as the interpreter would, for threads that the target did not wait for; return those that do nothing.

    The idle workers of an executor are ended by the interpreter itself.
    """
    executors = sys.modules.get("concurrent.futures.thread")
    done, worked, since = events(), time.process_time(), time.monotonic()
    while True:
        waited_for = [
            thread
            for thread in threading.enumerate()
            if thread is not threading.current_thread() and not thread.daemon
            if executors is None or thread not in executors._threads_queues
        ]
        if not waited_for:
            return []
        waited_for[0].join(0.1)
        if events() != done or time.process_time() - worked > WORK_S:
            done, worked, since = events(), time.process_time(), time.monotonic()
        elif time.monotonic() - since > IDLE_S:
            names = sorted({thread.name for thread in waited_for})
            sys.stderr.write(f"the target returned, but its threads go on and do nothing: {', '.join(names)}\n")
            faulthandler.dump_traceback(sys.__stderr__ or 2)
            return names


def _leave_threads_behind(code: int) -> None:
    """End a run that was stopped from outside though threads go on: the word that would have ended them never came."""
    until = time.monotonic() + THREADS_S
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    waited_for = [thread for thread in others if not thread.daemon]
    for thread in waited_for:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in waited_for):
        sys.stderr.write("threads that the target started were still running: they are not waited for\n")
        sys.stderr.flush()
        os._exit(code)


def _outcome(call: Callable[[], object]) -> dict[str, Any]:
    """Call the target and describe how it ended."""
    found: dict[str, Any] = {
        "how": "returned",
        "code": 0,
        "exception": None,
        "message": "",
        "traceback": None,
        "result": None,
    }
    try:
        result = call()
        found["result"] = repr(result) if isinstance(result, bool | int | float | str | None) else type(result).__name__
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else (0 if error.code is None else 1)
        if isinstance(error.code, str):
            sys.stderr.write(error.code + "\n")
        found.update(how="system_exit", code=code, exception="SystemExit", message=str(error.code)[:2000])
    except KeyboardInterrupt:
        found.update(how="interrupted", code=130, exception="KeyboardInterrupt")
    except BaseException as error:  # noqa: BLE001 (whatever ended the target is what is reported)
        if type(error).__name__ == "StopTraining":
            found.update(how="stopped", exception=None)
        else:
            lines = _theirs(error).splitlines()
            sys.stderr.write("\n".join(lines) + "\n")
            found.update(
                how="raised",
                code=1,
                exception=type(error).__name__,
                message=str(error)[:2000],
                traceback="\n".join(lines[-30:]),
            )
    return found


def _theirs(error: BaseException) -> str:
    """Return the traceback as the target's own process would print it: from its first frame on."""
    place = error.__traceback__
    while place is not None and (
        place.tb_frame.f_code.co_filename == __file__ or "runpy" in place.tb_frame.f_code.co_filename
    ):
        place = place.tb_next
    return "".join(traceback.format_exception(type(error), error, place))


def _call(spec: Spec, watch: Any = None) -> object:
    train = prepare = None
    if spec.pickle is not None:
        with Path(spec.pickle).open("rb") as file:
            train, prepare = pickle.load(file)  # noqa: S301 (written by our own parent)
    workdir = Path(spec.workdir)
    run = Run(
        workdir=workdir,
        seed=spec.seed,
        max_steps=spec.max_steps,
        resume_from=Path(spec.resume_from) if spec.resume_from is not None else None,
        environment=dict(spec.environment),
        data=spec.data,  # type: ignore[arg-type]
    )
    if prepare is not None and not spec.prepared:
        # Laying out data is not training: what it writes and draws is nobody's business.
        if watch is not None:
            watch.active = False
        try:
            prepare(run)
            for name in spec.touch:
                touch(workdir / name)
        finally:
            if watch is not None:
                watch.active = True
    if spec.script is None:
        assert train is not None
        return train(run)
    return _run_script(list(spec.script))


def _run_script(command: list[str]) -> object:
    """Run a script as ``python SCRIPT ARGUMENTS`` would: as __main__, its folder first on the path."""
    WriteGuard(Path.cwd()).install()
    path = command[0]
    if path == "-m":
        sys.argv = [command[1], *command[2:]]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        return None
    sys.argv = list(command)
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))  # noqa: PTH100, PTH120 (links are not followed)
    runpy.run_path(path, run_name="__main__")
    return None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
