"""Where a run is stopped, which of its checkpoints the next one resumes from, and whether it does. Imports no torch."""

from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from pytest_brainbrr.passes import ends_a_pass
from pytest_brainbrr.trace import Trace


def where_to_stop(trace: Trace, steps: int) -> tuple[int, bool]:
    """Return after how many steps to stop, and whether the trainer itself has written a checkpoint by then."""
    total = min(max(int(trace.exit["steps"]), 1), steps)
    written = sorted({int(event["step"]) for event in trace.checkpoints if 0 < event["step"] < total})
    half = max(1, total // 2)
    # In the middle of a pass: at its end a place that is forgotten, or an epoch begun anew, makes no difference.
    at = min(
        written or range(1, max(2, total)),
        key=lambda step: (ends_a_pass(trace, step), abs(step - half), -step),
    )
    return at, bool(written)


def choose_checkpoint(trace: Trace, folder: Path) -> Path | None:
    """Return what a run would be resumed from: of the last files written the one that holds most, "best" ones last.

    Where weights, optimizer and the rest lie in files of their own (Accelerate, Transformers), it is their folder.
    """
    there = [event for event in trace.checkpoints if (folder / str(event["final"])).is_file()]
    if not there:
        return None
    latest = max(int(event["step"]) for event in there)
    last = {str(event["final"]): event for event in there if event["step"] == latest}

    def fullness(name: str) -> tuple[bool, int, int]:
        event = last[name]
        return "best" not in PurePath(name).name.lower(), len(event["tensors"]) + len(event["scalars"]), event["n"]

    best = max(last, key=fullness)
    parent = PurePath(best).parent
    beside = [event for name, event in last.items() if PurePath(name).parent == parent and name != best]
    mine = {fact["digest"] for fact in last[best]["tensors"].values()}
    apart = [event for event in beside if not mine & {fact["digest"] for fact in event["tensors"].values()}]
    if apart and str(parent) != ".":
        return folder / parent
    return folder / best


def steps_behind(checkpoint: Path, trace: Trace, folder: Path) -> int:
    """Return after how many steps a checkpoint was written."""
    return max((int(event["step"]) for event in _writes(checkpoint, trace, folder)), default=0)


def counts_passes(checkpoint: Path, trace: Trace, folder: Path) -> bool:
    """Return whether a checkpoint holds a number of epochs."""
    return any("epoch" in key.lower() for event in _writes(checkpoint, trace, folder) for key in event["scalars"])


def reads(trace: Trace, checkpoint: Path) -> bool:
    """Return whether a run opened this checkpoint, or another file that the stopped run left beside it."""
    read = {str(Path(event["path"])) for event in trace.events("checkpoint_read", after=True) if event["path"]}
    opened = {event["path"] for event in trace.events("file_open", mode="read", after=True)}
    return any(
        PurePath(name).name == checkpoint.name
        or checkpoint.name in PurePath(name).parts
        or PurePath(name).parent == checkpoint.parent
        for name in read | opened
    )


def _writes(checkpoint: Path, trace: Trace, folder: Path) -> Iterable[dict[str, Any]]:
    return [event for event in trace.checkpoints if (folder / str(event["final"])).is_relative_to(checkpoint)]
