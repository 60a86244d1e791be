"""What is kept as the best stays as it was, until there is a better one."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pytest_brainbrr.results import Finding
from pytest_brainbrr.trace import Trace

BEST = re.compile(r"(^|[/_.])best([/_.]|$)", re.IGNORECASE)
WHEN = re.compile(r"step|epoch|iter", re.IGNORECASE)
Section = tuple[dict[str, Any], dict[str, Any]]
"""Path -> digest of tensors, path -> value of numbers."""


def changed_best(trace: Trace) -> Finding | None:
    """Return what is wrong with best weights that change from checkpoint to checkpoint beside an unchanged number.

    So an alias is seen in whatever form it was kept. A draw, as good as the best so far and taken for it, is none.
    """
    moved: list[str] = []
    for one, other in pairwise(trace.checkpoints):
        (tensors, numbers), (later, numbers_later) = _section(one), _section(other)
        if not tensors or not numbers or tensors.keys() != later.keys() or numbers != numbers_later:
            continue
        validated = any(one["n"] < call["n"] < other["n"] for call in trace.eval_calls)
        if validated and not any(WHEN.search(path) for path in numbers):
            continue
        changed = [path for path, digest in tensors.items() if later[path] != digest]
        elsewhere = {fact["digest"] for path, fact in other["tensors"].items() if path not in later}
        if changed and all(later[path] in elsewhere for path in changed):
            moved.append(min(changed))
    if not moved:
        return None
    text = "the weights kept as the best change without a better validation: they are those that train on"
    cause = "what was kept is the model's own tensors, not a copy"
    evidence = {"checkpoints": len(moved), "tensor": moved[0]}
    return Finding(
        "best-is-validated", "best checkpoint", "error", text, evidence, cause, "keep copy.deepcopy(...) of it"
    )


def _section(checkpoint: Mapping[str, Any]) -> Section:
    tensors = {path: fact["digest"] for path, fact in checkpoint["tensors"].items() if BEST.search(path)}
    numbers = {
        path: value
        for path, value in checkpoint["scalars"].items()
        if BEST.search(path) and isinstance(value, int | float) and not isinstance(value, bool)
    }
    return tensors, numbers
