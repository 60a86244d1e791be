"""Watch the processes that a run starts by itself: their own record, their own step limit. Imports no torch.

Limits: processes started with an environment of their own, or with ``-I`` or ``-S``, are not seen.
"""

import atexit
import json
import os
import sys
from pathlib import Path
from typing import Any

from pytest_brainbrr.imports import Finder
from pytest_brainbrr.spec import Spec

VARIABLE = "BRAINBRR_WATCHED"
HOOK = Path(__file__).parent / "sitehook"


def announce(spec: Spec) -> None:
    """Have every Python process that is started from here on watched too."""
    told = {"trace": spec.trace, "workdir": spec.workdir, "limit": spec.limit, "by": os.getpid()}
    os.environ[VARIABLE] = json.dumps(told)
    paths = [str(HOOK), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


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
