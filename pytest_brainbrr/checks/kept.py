"""What is kept as the best stays as it was, until there is a better one."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pytest_brainbrr.checks.iterations import finite_number
from pytest_brainbrr.results import Finding
from pytest_brainbrr.trace import Trace

BEST = re.compile(r"(^|[/_.])best([/_.]|$)", re.IGNORECASE)
BEST_NUMBER = re.compile(r"^best([_-](score|metric|value|loss|acc\w*|auc\w*|f1|val\w*))*$", re.IGNORECASE)
SAME = 1e-6
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


def kept_worst(
    scalars: Mapping[str, Any], series: Mapping[str, Sequence[float]], lower: Mapping[str, bool]
) -> Finding | None:
    """Return what is wrong with a checkpoint that remembers as the best number the worst of a series of validations.

    For trainers that mark no file as the best, and remember which of several is.

    Args:
        scalars: of the checkpoint.
        series: name -> value of every validation so far.
        lower: name -> whether lower is better.
    """
    kept = [abs(float(value)) for path, value in scalars.items() if remembers_best(path) and finite_number(value)]
    for name, values in series.items():
        if len(values) < 2:
            continue
        best, worst = (min(values), max(values)) if lower[name] else (max(values), min(values))
        near = SAME * max(1.0, abs(best), abs(worst))
        if abs(best - worst) <= 4 * near or any(abs(value - abs(best)) <= near for value in kept):
            continue
        if any(abs(value - abs(worst)) <= near for value in kept):
            text = "what is kept as the best number is the worst of the validations"
            cause = "the comparison is the wrong way round for this number"
            evidence = {"number": name, "values": [round(value, 6) for value in values], "kept": round(worst, 6)}
            hint = "compare in the direction that is better for this number"
            return Finding("best-is-best", "best number", "error", text, evidence, cause, hint)
    return None


def remembers_best(path: str) -> bool:
    """Return whether a place in a checkpoint is that of a best number.

    >>> remembers_best("state/progress/best/0/0"), remembers_best("best_score"), remembers_best("model/best.weight/0")
    (True, True, False)
    """
    *before, name = [part for part in path.split("/") if not part.isdigit()] or [""]
    return BEST_NUMBER.search(name) is not None and "model" not in before
