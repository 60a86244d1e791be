"""What is kept as the best stays as it was, until there is a better one."""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

BEST = re.compile(r"(^|[/_.])best([/_.]|$)", re.IGNORECASE)
WHEN = re.compile(r"step|epoch|iter", re.IGNORECASE)
Section = tuple[dict[str, Any], dict[str, Any]]
"""Path -> digest of tensors, path -> value of numbers."""


def judge_kept(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare successive checkpoints: other weights under the name of the best need another number beside them."""
    trace = traces["straight"]
    judged, moved = 0, []
    for one, other in pairwise(trace.checkpoints):
        (tensors, numbers), (later, numbers_later) = _section(one), _section(other)
        if not tensors or not numbers or tensors.keys() != later.keys() or numbers != numbers_later:
            continue
        validated = any(one["n"] < call["n"] < other["n"] for call in trace.eval_calls)
        if validated and not any(WHEN.search(path) for path in numbers):
            continue  # A draw: as good as the best so far, and taken for it.
        judged += 1
        changed = [path for path, digest in tensors.items() if later[path] != digest]
        elsewhere = {fact["digest"] for path, fact in other["tensors"].items() if path not in later}
        if changed and all(later[path] in elsewhere for path in changed):
            moved.append(min(changed))
    if not judged:
        raise Vacuous("no two checkpoints hold weights and a number named best, the number being the same")
    if moved:
        text = "the weights kept as the best change without a better validation: they are those that train on"
        cause = "state_dict() was kept as it is, whose tensors are the model's own, not a copy"
        evidence = {"checkpoints": len(moved), "tensor": moved[0]}
        yield Finding("best-is-kept", "best weights", "error", text, evidence, cause, "keep copy.deepcopy(...) of it")


def _section(checkpoint: Mapping[str, Any]) -> Section:
    tensors = {path: fact["digest"] for path, fact in checkpoint["tensors"].items() if BEST.search(path)}
    numbers = {
        path: value
        for path, value in checkpoint["scalars"].items()
        if BEST.search(path) and isinstance(value, int | float) and not isinstance(value, bool)
    }
    return tensors, numbers


CHECKS: tuple[Check, ...] = (
    Check(
        "best-is-kept",
        "Weights kept as the best do not train on",
        "checkpoint",
        judge_kept,
        proves=(
            "Between two checkpoints with the same best number, the weights kept under the name of the best are the "
            "same."
        ),
        faults=("best weights are the live ones, not a copy",),
        limits=(
            "Weights kept as the best inside of the checkpoints of training, beside their step, or with no validation "
            "between two checkpoints."
        ),
    ),
)
