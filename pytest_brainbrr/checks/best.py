"""The best checkpoint is the best one, and logged numbers are possible ones."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.best_pattern import HIGHER, LOWER, by_pattern, kept_under_another_name
from pytest_brainbrr.checks.checkpoints import BEST, held
from pytest_brainbrr.checks.feeds import validation_feeds, validation_passes
from pytest_brainbrr.checks.kept import changed_best, kept_worst
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

RATIO = re.compile(
    r"(^|[/_.\-])(acc|accuracy|auc|auroc|auprc|f1|f1_score|precision|recall|sensitivity|specificity|iou|dice)$",
    re.IGNORECASE,
)
LOSS = re.compile(r"(^|[/_.\-])(loss|mse|mae|rmse|nll|ppl|perplexity|error|err|wer|cer|eer|fpr)$", re.IGNORECASE)
HELD_OUT = re.compile(r"(^|[/_.\-])(val|valid|validation|eval|dev|test)([/_.\-]|$)", re.IGNORECASE)
KEPT = re.compile(r"best|score|monitor|metric|loss|val|acc|auc|f1", re.IGNORECASE)
SAME = 1e-6
LEAST, LEAST_POINTS = 0.1, 0.05
"""Smaller improvements (as a share; of a ratio, in points) may be too small for the trainer to count."""


def judge_best(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the validations after which the best checkpoint was written with the number it keeps as the best."""
    trace = traces["straight"]
    declared = [choice for event in trace.events("declared") for choice in event["choices"]]
    told = [(choice, _better(choice["monitor"])) for choice in declared if _better(choice["monitor"])]
    wrong = [choice for choice, better in told if choice["mode"] != better]
    if wrong:
        return [_wrong_way(choice) for choice in wrong[:1]]
    if told:
        return list(_by_files(traces, told=True))
    worst = _kept(trace)
    return [worst] if worst is not None else list(_by_files(traces, told=False))


def _better(name: str) -> str | None:
    """Return which way is better for a number, where its name tells.

    >>> _better("val/accuracy"), _better("eval_loss"), _better("score")
    ('max', 'min', None)
    """
    if LOSS.search(name):
        return "min"
    return "max" if RATIO.search(name) else None


def _wrong_way(choice: Mapping[str, str]) -> Finding:
    kind = "smallest" if choice["mode"] == "min" else "largest"
    text = f"{choice['what']} goes by the {kind} value of a number that is better the other way"
    cause = "the direction was left at its default, or guessed by the framework from the name"
    hint = "set mode (Lightning) or greater_is_better (Transformers) for this number"
    return Finding("best-is-best", choice["what"], "error", text, dict(choice), cause, hint)


def _by_files(traces: Mapping[str, Trace], *, told: bool) -> Iterable[Finding]:
    trace = traces["straight"]
    writes = [event for event in trace.checkpoints if BEST.search(str(event["final"] or event["path"]))]
    moments = _moments(trace)
    if not writes or len(moments) < 2:
        if told:
            return []
        raise Vacuous("no checkpoint is named best" if not writes else "the run validated fewer than twice")
    kept = [_index(moments, event["n"]) for event in writes]
    places = {place for place in kept if place is not None}
    judged = False
    series = _series(trace, moments)
    for name, values in series.items():
        lower = bool(LOWER.search(name))
        if not (lower or HIGHER.search(name)) or len(values) != len(moments) or None in kept:
            continue
        if not all(
            _names(event, values[place]) for event, place in zip(writes, kept, strict=True) if place is not None
        ):
            continue
        judged = True
        if _against(values, places, lower=lower):
            text = "the best checkpoint is not that of the best validation"
            cause = "the comparison is the wrong way round for this number (mode 'max' for a loss, or < for a score)"
            written = sorted(place + 1 for place in places)
            evidence = {"number": name, "values": [round(value, 6) for value in values], "written_after": written}
            hint = "compare in the direction that is better for this number"
            return [Finding("best-is-best", "best checkpoint", "error", text, evidence, cause, hint)]
    for verdict in (
        _lightning_mode(writes),
        kept_under_another_name(writes, kept, series),
        None if judged or told else by_pattern(trace, kept, series, len(moments)),
    ):
        if verdict is not None:
            return [verdict]
    if not judged and not told:
        raise Vacuous("the number by which the best checkpoint is chosen could not be recognised")
    return []


def _kept(trace: Trace) -> Finding | None:
    """Return what is wrong with the best number that the last checkpoint keeps, if it is none."""
    moments = _moments(trace)
    if not trace.checkpoints or len(moments) < 2:
        return None
    last = trace.checkpoints[-1]
    until = sum(start < last["n"] for start, _ in moments)
    series = {name: values[:until] for name, values in _series(trace, moments).items() if len(values) == len(moments)}
    lower = {name: bool(LOWER.search(name)) for name in series if LOWER.search(name) or HIGHER.search(name)}
    return kept_worst(last["scalars"], {name: series[name] for name in lower}, lower)


def _moments(trace: Trace) -> list[tuple[float, float]]:
    """Return the stretch of events that belongs to each validation: from its first call to the next validation."""
    groups = validation_passes(trace)
    starts = [float(group[0].call["n"]) for group in groups]
    return list(pairwise([*starts, math.inf]))


def _index(moments: Sequence[tuple[float, float]], n: int) -> int | None:
    for place, (start, following) in enumerate(moments):
        if start < n < following:
            return place
    return None


def _series(trace: Trace, moments: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
    """Return name -> value per validation, of everything logged once per validation."""
    found: dict[str, list[float]] = {}
    for event in trace.events("metrics_file", after=True):
        for name in {name for row in event["rows"] for name in row}:
            values = [row[name] for row in event["rows"] if _is_number(row.get(name))]
            found.setdefault(str(name), [float(value) for value in values])
    per: dict[str, dict[int, float]] = {}
    for event in trace.events("metric"):
        place = _index(moments, event["n"])
        for name, value in event["values"].items():
            if place is not None:
                per.setdefault(name, {})[place] = value
    for name, values_at in per.items():
        found.setdefault(name, [values_at[place] for place in sorted(values_at)])
    losses = [_mean_loss(trace, start, following) for start, following in moments]
    if all(value is not None for value in losses):
        found.setdefault("validation loss", [value for value in losses if value is not None])
    return found


def _mean_loss(trace: Trace, start: float, following: float) -> float | None:
    values = [
        event["output"]["mean"]
        for event in trace.events("loss")
        if start < event["n"] < following and not event["grad_enabled"] and event["output"].get("mean") is not None
    ]
    return sum(values) / len(values) if values else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _names(event: Mapping[str, Any], value: float) -> bool:
    """Return whether a checkpoint keeps this number, or its negative, as something like a best score."""
    return any(
        _is_number(number) and abs(abs(number) - abs(value)) <= SAME * max(1.0, abs(value)) and KEPT.search(path)
        for path, number in event["scalars"].items()
    )


def _against(values: Sequence[float], written: set[int], *, lower: bool) -> bool:
    """Return whether a better validation was passed over, or a worse one kept.

    >>> _against([0.5, 0.4], {0}, lower=True), _against([0.5, 0.6], {0}, lower=True)
    (True, False)
    """
    sign = 1.0 if lower else -1.0
    best = math.inf
    margin = max(LEAST * min(map(abs, values), default=0.0), 0.0 if lower else LEAST_POINTS)
    for place, value in enumerate(values):
        if place in written and sign * value > best + SAME:
            return True
        if place not in written and sign * value < best - margin and written and place > min(written):
            return True
        if place in written:
            best = min(best, sign * value)
    return False


def _lightning_mode(writes: Sequence[Mapping[str, Any]]) -> Finding | None:
    for event in writes:
        for path in event["scalars"]:
            match = re.search(r"'monitor': '([^']+)', 'mode': '(min|max)'", path)
            if match and LOWER.search(match.group(1)) and match.group(2) == "max":
                text = "the best checkpoint is chosen by the largest loss"
                cause = "mode='max' in ModelCheckpoint for a number that is better when lower"
                evidence = {"monitor": match.group(1), "mode": match.group(2)}
                return Finding("best-is-best", "best checkpoint", "error", text, evidence, cause, "set mode='min'")
    return None


def judge_range(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look at logged ratios: accuracy and its kin lie between 0 and 1, or 0 and 100."""
    trace = traces["straight"]
    found: dict[str, list[float]] = {}
    for name, value in _logged(trace):
        if RATIO.search(name):
            found.setdefault(name, []).append(value)
    if not found:
        raise Vacuous("no accuracy, area under a curve or the like was logged where it can be seen")
    for name, values in sorted(found.items()):
        if max(values) > 100 + SAME or min(values) < -SAME:
            text = "a logged ratio lies outside of its range"
            cause = (
                "numbers of predictions and labels are compared after broadcasting, or the count divided by is wrong"
            )
            evidence = {"smallest": min(values), "largest": max(values)}
            hint = "compare tensors of equal shape, and divide by how many were compared"
            yield Finding("metric-range", name, "error", text, evidence, cause, hint)


def _logged(trace: Trace) -> Iterator[tuple[str, float]]:
    for event in trace.events("metric"):
        yield from ((name, float(value)) for name, value in event["values"].items() if _is_number(value))
    for event in trace.events("metrics_file", after=True):
        for row in event["rows"]:
            yield from ((str(name), float(value)) for name, value in row.items() if _is_number(value))


def judge_validated(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the weights in a best checkpoint with those that were validated so far, and with those that train."""
    trace = traces["straight"]
    alias = _alias(trace) or changed_best(trace)
    if alias is not None:
        return [alias]
    judged = wrong = 0
    for event in trace.checkpoints:
        snapshot = trace.snapshot_of(event)
        if snapshot is None or not BEST.search(str(event["final"] or event["path"])):
            continue
        if not _follows_validation(trace, event):
            continue
        validated = _validated(trace, event["n"])
        for live in snapshot["models"].values():
            for kept in held(event, live).values():
                names = {name for name in kept if validated.get(name) and live[name] not in validated[name]}
                if len(kept) * 2 <= len(live) or not names:
                    continue
                judged += 1
                wrong += all(kept[name]["digest"] == live[name] for name in names)
    if not judged:
        raise Vacuous("no checkpoint named best was written while the model's weights differed from those validated")
    if wrong:
        text = "the best checkpoint holds the weights that train, which were never validated"
        cause = "averaged weights are validated and raw ones saved, or the state kept as the best is an alias"
        hint = "save a copy of the weights that were validated, together with their score"
        return [Finding("best-is-validated", "best checkpoint", "error", text, {"checkpoints": wrong}, cause, hint)]
    return []


def _alias(trace: Trace) -> Finding | None:
    """Return what is wrong with a state dict that was kept as the best, not copied, and used steps later."""
    cause, hint = "state_dict() returns the live tensors: they go on changing", "keep copy.deepcopy(model.state_dict())"
    for event in trace.checkpoints:
        named = bool(BEST.search(str(event["final"] or event["path"])))
        for path, step in (event.get("taken") or {}).items():
            if 0 < step < event["step"] and (named or any(BEST.search(part) for part in path.split("/")[:-1])):
                text = "the weights kept as the best were saved steps later, and are those of that moment"
                evidence = {"taken_after_step": step, "saved_after_step": event["step"]}
                return Finding("best-is-validated", "best checkpoint", "error", text, evidence, cause, hint)
    for event in trace.events("load_state_dict"):
        if event.get("own") is not None and 0 < event["own"] < event["step"]:
            text = "weights that were put aside are loaded back, and are the model's present ones: nothing is restored"
            evidence = {"taken_after_step": event["own"], "loaded_after_step": event["step"]}
            return Finding("best-is-validated", str(event["what"]), "error", text, evidence, cause, hint)
    return None


def _follows_validation(trace: Trace, event: Mapping[str, Any]) -> bool:
    """Return whether a write goes with a validation: no step lies between, or it keeps a number of a validation.

    What is best by the training loss is saved between validations, and need not be validated.
    """
    begun = [border["n"] for border in trace.events("weights", when="eval_begin") if border["n"] < event["n"]]
    if not begun or not any(begun[-1] < step["n"] < event["n"] for step in trace.steps):
        return True
    series = _series(trace, _moments(trace))
    return any(_names(event, value) for name, values in series.items() if "train" not in name for value in values)


def _validated(trace: Trace, before: int) -> dict[str, set[str]]:
    """Return parameter name -> digests it had when a validation began, over all models."""
    evaluated = {feed.call["model"] for feed in validation_feeds(trace)}
    found: dict[str, set[str]] = {}
    for border in trace.events("weights", when="eval_begin"):
        model = trace.models.get(border["model"])
        if border["n"] < before and model is not None and border["model"] in evaluated:
            for fact in model["parameters"]:
                if fact["id"] in border["parameters"]:
                    found.setdefault(fact["name"], set()).add(border["parameters"][fact["id"]])
    return found


def judge_computed(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for metrics that were asked for and never computed, and for a loss that is logged without being measured."""
    trace = traces["straight"]
    asked = [event for event in trace.events("evaluated") if event["metrics_given"]]
    if asked and not any(event["metrics_called"] for event in asked):
        text = "the function of metrics that the trainer was given is never called"
        cause = "no batch holds all of label_names, so evaluations count as having no labels"
        hint = "give label_names as the batch's keys are called"
        yield Finding("metric-computed", "compute_metrics", "error", text, {"evaluations": len(asked)}, cause, hint)
        return
    moments = _moments(trace)
    losses = [_mean_loss(trace, start, following) for start, following in moments]
    judged = bool(asked)
    for name, values in sorted(_series(trace, moments).items()):
        if (
            name == "validation loss"
            or not (LOSS.search(name) and HELD_OUT.search(name))
            or len(values) < 2
            or len(values) != len(moments)
            or None in losses
        ):
            continue
        judged = True
        if len(set(values)) == 1 and values[0] and len(set(losses)) == len(losses):
            text = "a loss of the validation is logged with one and the same value, although the loss changes"
            cause = "a value kept from an earlier validation is logged again"
            hint = "log the loss of this validation"
            yield Finding("metric-computed", name, "error", text, {"value": values[0]}, cause, hint)
            return
    if not judged:
        raise Vacuous("no evaluation with a function of metrics was seen, and no logged loss of two validations")


CHECKS: tuple[Check, ...] = (
    Check(
        "best-is-best",
        "The best checkpoint is that of the best validation",
        "metrics",
        judge_best,
        cut=True,
        proves=(
            "The checkpoint named best was written after the better validations and not after the worse ones, by "
            "the number it keeps; a number remembered as the best is not the worst of several. "
            "What a framework keeps, stops or slows down by goes the way that is better for it."
        ),
        faults=(
            "comparison the wrong way round",
            "mode max for a loss, mode min for an accuracy",
            "greater_is_better left out for an error rate",
            "chosen by a number of training under the name of one of validation",
        ),
        limits=(
            "Needs two validations, a checkpoint named best, and the number in the checkpoint and in a log or a loss. "
            "Without the number it warns, where all that is logged says the same."
        ),
    ),
    Check(
        "best-is-validated",
        "The best checkpoint holds the weights that were validated",
        "metrics",
        judge_validated,
        cut=True,
        proves=(
            "A checkpoint named best, written right after a validation, holds tensors of the model as it was validated."
        ),
        faults=("averaged weights validated, raw ones saved", "best weights are an alias"),
        limits="Weights saved in another precision are not compared, nor what is saved between validations without a "
        "number of one.",
    ),
    Check(
        "metric-range",
        "Logged ratios are possible numbers",
        "metrics",
        judge_range,
        cut=True,
        proves=(
            "Accuracy, areas under curves, precision, recall and the like lie within 0 and 1, or 0 and 100 for percent."
        ),
        faults=("labels and predictions broadcast", "divided by the wrong count"),
        limits="Numbers in a known logger, a CSV or a JSON-lines file.",
    ),
    Check(
        "metric-computed",
        "Metrics that were asked for are computed, each time anew",
        "metrics",
        judge_computed,
        proves="Transformers' Trainer calls the function of metrics it was given, and what is logged as a validation "
        "loss changes when the loss does.",
        faults=("label_names that no batch holds", "a stale value logged for ever"),
        limits="Numbers in a known logger; losses of torch.nn.functional.",
    ),
)
