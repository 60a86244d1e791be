"""Watch the processes that a run starts by itself: own record, own step limit, own guard. Imports no torch.

Limits: processes started with an environment of their own, or with ``-I`` or ``-S``, are not seen.
"""

import atexit
import json
import os
import sys
from pathlib import Path
from typing import Any

from pytest_brainbrr.imports import Finder
from pytest_brainbrr.mirror import WriteGuard
from pytest_brainbrr.spec import Spec

VARIABLE, GUARDED = "BRAINBRR_WATCHED", "BRAINBRR_GUARDED"
HOOK = Path(__file__).parent / "sitehook"


def announce(spec: Spec) -> None:
    """Have every Python process that is started from here on watched, and kept from writing the user's files, too."""
    if spec.watched:
        told = {"trace": spec.trace, "workdir": spec.workdir, "limit": spec.limit, "by": os.getpid()}
        os.environ[VARIABLE] = json.dumps(told)
    if spec.script is not None:
        os.environ[GUARDED] = spec.workdir
    if not spec.watched and spec.script is None:
        return
    paths = [str(HOOK), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


def guard(folder: str) -> None:
    """Keep this process from writing through the links of a script's folder."""
    WriteGuard(Path(folder)).install()


def wait_for_torch(told: str) -> None:
    """Install the observers in this process once torch is imported."""
    finder, facts = Finder(), json.loads(told)
    sys.meta_path.insert(0, finder)

    def imported(_: Any) -> None:
        sys.meta_path.remove(finder)
        _install(facts)

    finder.when_imported("torch", imported)


def _install(facts: dict[str, Any]) -> None:
    from pytest_brainbrr.observers import install
    from pytest_brainbrr.observers.limit import Limit, StopRank

    watch = install(Path(facts["trace"]), Path(facts["workdir"]), role="rank")
    watch.emit("process_started", child=os.getpid(), how="spawn", watched=True)
    Limit(watch, facts["limit"], stop=StopRank).install()

    def end() -> None:
        if watch.active:
            for callback in watch.on_end:
                callback()
            watch.close()

    atexit.register(end)
