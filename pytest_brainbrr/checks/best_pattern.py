"""After which validations a best checkpoint was written, where it keeps no number that says by which it was chosen."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_brainbrr.checks.feeds import validation_passes
from pytest_brainbrr.results import Finding
from pytest_brainbrr.trace import Trace

LOWER = re.compile(r"loss|err|mse|mae|rmse|perplexity|\bppl\b|nll|\bfpr\b|\bfdr\b|\beer\b", re.IGNORECASE)
HIGHER = re.compile(
    r"acc|auc|auroc|\bf1|f1$|f1_|precision|recall|sensitiv|specific|iou|dice|kappa|mcc|r2", re.IGNORECASE
)
SAME = 1e-6
CLEAR = 0.01
"""Smaller differences, as a share, may be too small for the trainer to count."""
TRAIN = re.compile(r"train|(^|[/_.\-])tr([/_.\-]|$)", re.IGNORECASE)
STEPS = re.compile(r"(^|[/_.\-])(step|epoch|iter|iteration|time|seconds|lr|rate|n|count|samples)s?$", re.IGNORECASE)


def kept_under_another_name(
    writes: Sequence[Mapping[str, Any]], places: Sequence[int | None], series: Mapping[str, Sequence[float]]
) -> Finding | None:
    """Return what is wrong with a number that best checkpoints call by the name of another one in the log."""
    if len(writes) < 2 or None in places:
        return None
    for path in writes[0]["scalars"]:
        last = path.rpartition("/")[2].lower().removeprefix("best_")
        own = next((name for name in series if name.lower() == last), None)
        kept = [event["scalars"].get(path) for event in writes]
        if own is None or any(not isinstance(value, int | float) for value in kept) or len(set(kept)) < len(kept):
            continue
        spans = {name for name, values in series.items() if len(values) > max(place or 0 for place in places)}
        of = [name for name in sorted(spans) if _equals(kept, [series[name][place or 0] for place in places])]
        if own in spans and own not in of and any(TRAIN.search(name) for name in of) and not TRAIN.search(own):
            text = "the best checkpoint is chosen by a number of training, under the name of one of validation"
            cause = "the wrong variable is compared with the best so far"
            evidence = {"named": own, "is": of[0], "values": [round(float(value), 6) for value in kept]}
            hint = "compare the number of the validation"
            return Finding("best-is-best", "best checkpoint", "warning", text, evidence, cause, hint)
    return None


def _equals(one: Sequence[Any], other: Sequence[float]) -> bool:
    return all(abs(a - b) <= SAME * max(1.0, abs(b)) for a, b in zip(one, other, strict=True))


def by_pattern(
    trace: Trace, kept: Sequence[int | None], series: Mapping[str, list[float]], count: int
) -> Finding | None:
    """Judge by all numbers together where none is kept: also by the outputs' own hits, which nobody may have logged.

    Args:
        trace: The run.
        kept: For each write of a best checkpoint, after which validation it came.
        series: Name -> values in the order of the validations.
        count: How many validations there were.
    """
    whole = {name: values for name, values in series.items() if len(values) == count}
    logged = [name for name in whole if name != "validation loss" and (LOWER.search(name) or HIGHER.search(name))]
    if None in kept or not logged:
        return None
    for number, hits in enumerate(_hits(trace)):
        if len(hits) == count:
            whole[f"accuracy {number}"] = hits
    directions = {name: True if LOWER.search(name) else (False if HIGHER.search(name) else None) for name in whole}
    return written_for_the_worse(directions, whole, {place for place in kept if place is not None})


def _hits(trace: Trace) -> Iterator[list[float]]:
    """Yield the shares of hits per validation, for each output and label that could be meant."""
    found: dict[Any, list[float]] = {}
    for group in validation_passes(trace):
        sums: dict[Any, list[float]] = {}
        for feed in group:
            for fact in feed.call.get("scores") or []:
                if fact.get("hits") is not None:
                    one = sums.setdefault((fact["output"], fact["at"]), [0.0, 0.0])
                    one[0], one[1] = one[0] + fact["hits"], one[1] + fact["n"]
        for key, (right, count) in sums.items():
            found.setdefault(key, []).append(right / max(count, 1))
    yield from found.values()


def written_for_the_worse(
    directions: Mapping[str, bool | None], series: Mapping[str, Sequence[float]], written: set[int]
) -> Finding | None:
    """Return what is wrong if best checkpoints were written after the worse validations by every number there is.

    Args:
        directions: Name -> whether lower is better, None where the name does not tell.
        series: Name -> value per validation.
        written: Validations after which the best checkpoint was written.
    """
    clear: list[str] = []
    for name, values in series.items():
        if TRAIN.search(name) or STEPS.search(name):
            continue
        lower = directions[name]
        ways = [lower] if lower is not None else [True, False]
        if any(_fits(values, written, lower=way, strictly=False) for way in ways):
            return None
        if lower is not None and _fits(values, written, lower=not lower, strictly=True):
            clear.append(name)
    if not clear:
        return None
    text = "the best checkpoint was written after the worse validations only, by every number that is logged"
    cause = "the comparison is the wrong way round for this number (mode 'max' for a loss, or < for a score)"
    evidence = {
        "number": clear[0],
        "values": [round(value, 6) for value in series[clear[0]]],
        "written_after": sorted(place + 1 for place in written),
    }
    hint = "compare in the direction that is better for this number"
    return Finding("best-is-best", "best checkpoint", "warning", text, evidence, cause, hint)


def _fits(values: Sequence[float], written: set[int], *, lower: bool, strictly: bool) -> bool:
    """Return whether a best that was written after these validations was the best each time, and no better one was not.

    >>> _fits([0.5, 0.4], {0}, lower=True, strictly=False), _fits([0.5, 0.4], {0}, lower=False, strictly=True)
    (False, True)
    >>> _fits([0.5, 0.499], {0}, lower=True, strictly=False), _fits([0.5, 0.499], {0}, lower=False, strictly=True)
    (True, False)
    """
    sign = 1.0 if lower else -1.0
    best = None
    for place, value in enumerate(values):
        own = sign * value
        margin = CLEAR * max(abs(value), SAME)
        if best is None:
            if place not in written:
                continue  # a threshold to begin with, or a warm-up
            best = own
            continue
        gained = best - own
        if strictly and abs(gained) <= margin:
            return False
        if place in written and gained < 0:
            return False
        if place not in written and gained > margin:
            return False
        if place in written:
            best = own
    return best is not None
