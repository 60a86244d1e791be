"""Logged scores are those of the outputs: accuracies and errors are computed again from what validation put out."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.best import _moments, _series
from pytest_brainbrr.checks.feeds import Feed, validation_passes
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

ACCURACY = re.compile(r"(^|[/_.\-])acc(uracy)?([/_.\-](epoch|mean))?$", re.IGNORECASE)
ERROR = re.compile(r"(^|[/_.\-])(mae|mse)([/_.\-](epoch|mean))?$", re.IGNORECASE)
RATIOS = {
    "f1": re.compile(r"(^|[/_.\-])f1([_.\-]?score)?$", re.IGNORECASE),
    "precision": re.compile(r"(^|[/_.\-])(precision|ppv)$", re.IGNORECASE),
    "recall": re.compile(r"(^|[/_.\-])(recall|sensitivity|tpr)$", re.IGNORECASE),
}
"""Scores of the positive class."""
OTHER = re.compile(r"train|balanced|top|best|ema|macro|micro|weighted|average|event", re.IGNORECASE)
CLOSE = 2e-4

Batch = Mapping[str, Any]
Way = Callable[[Sequence[Sequence[Batch]], int], float | None]
"""A way to compute a score: validations as lists of batches, number of the validation -> value."""


@dataclass(frozen=True)
class Mistake:
    """A wrong way to compute a score, and what it means if a logged number is that."""

    way: Way
    text: str
    cause: str


def _ratio(batches: Sequence[Batch], name: str) -> float | None:
    kind, _, half = name.partition("_")
    if kind in RATIOS:
        return _of_confusion(batches, kind, f"confusion_{half}" if half else "confusion")
    count = sum(int(batch["n"]) for batch in batches)
    if not count or any(batch.get(name) is None for batch in batches):
        return None
    return float(sum(float(batch[name]) for batch in batches) / count)


def _of_confusion(batches: Sequence[Batch], kind: str, name: str) -> float | None:
    """Return a score of the positive class from hits, false alarms and misses; 0 where nothing is to divide by."""
    if any(batch.get(name) is None for batch in batches):
        return None
    hits, false, missed = (sum(int(batch[name][place]) for batch in batches) for place in range(3))
    of = {"f1": hits + (false + missed) / 2, "precision": hits + false, "recall": hits + missed}[kind]
    return float(hits / of) if of else 0.0


def _whole(name: str) -> Way:
    return lambda rounds, place: _ratio(rounds[place], name)


def _inverted(rounds: Sequence[Sequence[Batch]], place: int) -> float | None:
    value = _ratio(rounds[place], "hits")
    return None if value is None else 1 - value


def _mistakes(name: str) -> Iterator[Mistake]:
    yield Mistake(
        lambda rounds, place: _ratio(rounds[place][-1:], name),
        "is that of the last batch of the validation, not of all",
        "the count is set back, or the result overwritten, inside the loop over the batches",
    )
    yield Mistake(
        lambda rounds, place: _ratio(rounds[place][:1], name),
        "is that of the first batch of the validation, not of all",
        "a return or break stands inside the loop over the batches",
    )
    yield Mistake(
        lambda rounds, place: _ratio([batch for one in rounds[: place + 1] for batch in one], name),
        "covers the validations before it, too",
        "counts or lists are not set back between validations",
    )


def judge_scores(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compute accuracies and errors of each validation again, and compare them with those logged."""
    trace = traces["straight"]
    groups = validation_passes(trace)
    if len(groups) < 2:
        raise Vacuous("the run validated fewer than twice")
    stretches = _moments(trace)
    logits = any("with_logits" in loss["function"] and loss["input_from"] is not None for loss in trace.events("loss"))
    judged = False
    for name, values in sorted(_series(trace, stretches).items()):
        kind = _kind(name)
        if kind is None or OTHER.search(name) or len(values) != len(groups) or len(set(values)) < 2:
            continue
        for rounds in _readings(trace, groups, values):
            verdict = _judge(rounds, values, kind, logits=logits)
            judged = judged or verdict is not None
            if isinstance(verdict, Mistake):
                where = {"hits": "accuracy", "absolute": "error", "squared": "error"}.get(kind, kind)
                right = [_ratio(batches, kind) for batches in rounds]
                evidence = {
                    "number": name,
                    "logged": [round(value, 6) for value in values],
                    "of_all_outputs": [round(value, 6) if value is not None else None for value in right],
                }
                text = f"the logged {where} {verdict.text}"
                hint = "count hits and samples over the whole of one validation, and divide once at its end"
                yield Finding("scores-of-outputs", where, "warning", text, evidence, verdict.cause, hint)
                return
    if not judged:
        raise Vacuous("no accuracy or error was logged per validation beside outputs and labels of one shape")


def _kind(name: str) -> str | None:
    """Return which sums a logged number is made of."""
    if ACCURACY.search(name):
        return "hits"
    if ERROR.search(name):
        return "squared" if "mse" in name.lower() else "absolute"
    return next((kind for kind, pattern in RATIOS.items() if pattern.search(name)), None)


def _readings(
    trace: Trace, groups: Sequence[Sequence[Feed]], values: Sequence[float]
) -> Iterator[list[list[dict[str, Any]]]]:
    """Yield, for each output and label that could be meant, the sums per batch of every validation."""
    tables = [[_sums(feed) for feed in group] for group in groups]
    keys = set.intersection(*(set(batch) for group in tables for batch in group)) if tables else set()
    for key in sorted(keys, key=str):
        yield [[batch[key] for batch in group] for group in tables]


def _sums(feed: Feed) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(fact["output"], fact["at"], fact["kind"]): fact for fact in feed.call.get("scores") or []}


def _judge(
    rounds: list[list[dict[str, Any]]], values: Sequence[float], name: str, *, logits: bool
) -> Mistake | bool | None:
    """Return the mistake that explains the values, True if they are right, False if neither; None: not comparable."""
    right = [_ratio(batches, name) for batches in rounds]
    if None in right or max(map(len, rounds)) < 2:
        return None
    accepted: list[Way] = [_whole(name)]
    wrong = list(_mistakes(name))
    if name == "hits" or name in RATIOS:
        half = f"{name}_half"
        binary = all(_ratio(batches, half) is not None for batches in rounds)
        if binary and not logits and not any(batch["outside"] for batches in rounds for batch in batches):
            accepted.append(_whole(half))
        elif binary:
            wrong.append(
                Mistake(
                    _whole(half),
                    "compares logits with one half",
                    "the threshold 0.5 is for probabilities: sigmoid is missing before it",
                )
            )
        if binary and name == "hits":
            wrong.append(
                Mistake(_inverted, "counts the misses", "the comparison with the threshold is the wrong way round")
            )
    scaled = name in {"absolute", "squared"}
    if any(_explains(way, rounds, values, scaled=scaled) for way in accepted):
        return True
    return next((one for one in wrong if _explains(one.way, rounds, values, scaled=scaled)), False)


def _explains(way: Way, rounds: list[list[dict[str, Any]]], values: Sequence[float], *, scaled: bool) -> bool:
    """Return whether a way gives the logged values: as they are, in percent, or, of errors, up to one unit."""
    own = [way(rounds, place) for place in range(len(values))]
    if any(value is None for value in own):
        return False
    found = [value for value in own if value is not None]
    factors = [1.0, 100.0]
    if scaled and found[0]:
        factors.append(values[0] / found[0])
    return any(
        all(
            abs(value - factor * one) <= CLOSE * max(abs(value), factor, 1e-12 if scaled else factor)
            for one, value in zip(found, values, strict=True)
        )
        for factor in factors
    )


def judge_fresh_inputs(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for validations in which the loader goes on and the model sees one and the same input."""
    trace = traces["straight"]
    judged = stuck = 0
    groups = _evaluated(trace)
    trained = {call["loader"][0] for call in trace.train_calls if call.get("loader")}
    delivered: dict[tuple[str, int], str] = {}
    for batch in trace.events("batch"):
        if batch["tensors"] and batch["tensors"][0].get("digest"):
            delivered[batch["epoch"], batch["position"]] = batch["tensors"][0]["digest"]
    for name, calls in groups.items():
        by_place = dict(calls)
        digests = {call["inputs"][0].get("digest") for call in by_place.values()}
        batches = {delivered.get((name, place)) for place in by_place}
        if name in trained or len(by_place) < 2 or len(batches) < 2 or None in batches | digests:
            continue
        if calls[0][1]["inputs"][0]["constant"]:
            continue
        judged += 1
        stuck += len(digests) == 1
    if not judged:
        raise Vacuous("no validation took two different batches from a watched loader")
    if stuck == judged:
        text = "validation takes batch after batch from its loader, and gives the model one and the same input"
        cause = "a variable of another loop, or of the first batch, is used in the loop over the validation"
        hint = "call the model with the batch of this turn of the loop"
        yield Finding("validation-advances", "validation loop", "error", text, {"validations": stuck}, cause, hint)


def _evaluated(trace: Trace) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """Return pass over a loader -> position of the batch delivered last, and call without gradients."""
    groups: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    last: dict[str, Any] | None = None
    for event in sorted((*trace.events("batch"), *trace.events("forward")), key=lambda event: event["n"]):
        if event["kind"] == "batch":
            last = event
        elif last is not None and not event["grad_enabled"] and event["inputs"]:
            groups.setdefault(last["epoch"], []).append((last["position"], event))
    return groups


CHECKS: tuple[Check, ...] = (
    Check(
        "validation-advances",
        "Validation gives the model the batches it takes",
        "metrics",
        judge_fresh_inputs,
        proves="The model's first input changes while different batches are delivered.",
        faults=("a variable of the training loop used in the validation loop",),
        limits="Needs a watched loader with two batches per validation.",
    ),
    Check(
        "scores-of-outputs",
        "Logged scores are those of the outputs",
        "metrics",
        judge_scores,
        proves=(
            "A logged accuracy, F1, precision, recall, mean absolute or mean squared error is not that of the last or "
            "first batch only, of earlier validations too, of misses, or of logits compared with one half."
        ),
        faults=(
            "metric of the last batch",
            "counts never set back",
            "positive class inverted in the metric",
            "threshold 0.5 on logits",
        ),
        limits=(
            "A warning. Two validations of two batches, outputs and labels of one shape (or classes and their numbers) "
            "without a mask, and a number called accuracy, f1, precision, recall, mae or mse in a log. What fits "
            "neither is left alone."
        ),
    ),
)
