"""What goes in and out of the model has the declared shape, and no loss compares everything with everything."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

ELEMENTWISE = frozenset(
    {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "poisson_nll_loss"}
)


def judge_shapes(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Compare inputs, inner outputs, outputs and loss arguments with what is declared."""
    trace = traces["straight"]
    declared = (target.input_shape, target.output_shape, target.inner_shapes)
    calls = [call for call in (*trace.train_calls, *trace.eval_calls) if call["model"]]
    losses = trace.events("loss")
    if not any(declared) and not losses:
        raise Vacuous("the target declares no shapes, and no known loss function was called")
    if any(declared) and not calls:
        raise Vacuous(trace.lost("modules") or "no call of a model was seen")
    seen: set[tuple[str, str]] = set()
    for call in calls:
        for found in _wrong(call, target):
            key = (found.where, found.message)
            if key not in seen:
                seen.add(key)
                yield found
    unseen = [pattern for pattern in target.inner_shapes if not any(_inner(call, pattern) for call in calls)]
    if unseen:
        yield Finding(
            "shapes",
            unseen[0],
            "error",
            "a module with a declared shape was never called",
            {"patterns": unseen},
            cause="it was renamed, or is left out of forward()",
            hint="declare the path that `named_modules()` gives it",
        )
    enlarged: set[str] = set()
    for loss in losses:
        shapes = {fact["at"]: fact["shape"] for fact in loss["args"]}
        value, wanted = shapes.get("input"), shapes.get("target")
        if loss["function"] not in ELEMENTWISE or value is None or wanted is None or loss["function"] in enlarged:
            continue
        if _enlarges(value, wanted):
            enlarged.add(loss["function"])
            yield Finding(
                "shapes",
                loss["function"],
                "error",
                "input and target broadcast to a shape larger than either: every prediction meets every label",
                {"input": value, "target": wanted},
                cause="one of them has an extra dimension of size 1, such as logits (B, 1) and labels (B,)",
                hint="squeeze or unsqueeze one of them so that both have the same shape",
            )


def _wrong(call: Mapping[str, Any], target: Target) -> Iterator[Finding]:
    if not call["path"] or call["inputs"]:
        floats = [fact for fact in call["inputs"] if fact["dtype"].startswith(("float", "bfloat"))] or call["inputs"]
        if target.input_shape is not None and floats and not _fits(floats[0]["shape"], target.input_shape):
            yield _finding("input", floats[0]["shape"], target.input_shape, call)
    if target.output_shape is not None and call["outputs"]:
        shapes = [fact["shape"] for fact in call["outputs"]]
        if not any(_fits(shape, target.output_shape) for shape in shapes):
            yield _finding("output", shapes[0], target.output_shape, call)
    for pattern, wanted in target.inner_shapes.items():
        for inner in _inner(call, pattern):
            if not _fits(inner["outputs"][0][0], wanted):
                yield _finding(inner["path"], inner["outputs"][0][0], wanted, call)


def _inner(call: Mapping[str, Any], pattern: str) -> list[dict[str, Any]]:
    return [inner for inner in call["inner"] or [] if fnmatchcase(inner["path"], pattern) and inner["outputs"]]


def _finding(where: str, got: Sequence[int], wanted: Sequence[int | None], call: Mapping[str, Any]) -> Finding:
    return Finding(
        "shapes",
        f"{call['class']}: {where}",
        "error",
        "has another shape than declared",
        {"got": list(got), "declared": ["any" if size is None else size for size in wanted]},
        cause="a dimension was dropped, swapped, padded or cropped on the way",
        hint="print the shapes before and after the module named here; correct the module, or the declared shape",
    )


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        size is None or size == got for got, size in zip(shape, wanted, strict=True)
    )


def _enlarges(first: Sequence[int], second: Sequence[int]) -> bool:
    """Return whether two shapes broadcast to something with more elements than either has.

    >>> _enlarges([8], [8, 1]), _enlarges([8, 1], [8, 1]), _enlarges([8, 3], [1])
    (True, False, False)
    """
    size = max(len(first), len(second))
    one, other = ([1] * (size - len(shape)) + list(shape) for shape in (first, second))
    total = 1
    for a, b in zip(one, other, strict=True):
        total *= max(a, b)
    return total > max(_count(one), _count(other))


def _count(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


CHECKS: tuple[Check, ...] = (
    Check(
        id="shapes",
        title="inputs, encoder output, logits and labels have the declared shapes",
        group="wiring",
        judge=judge_shapes,
        proves="Every call of the model took and gave tensors of the declared shapes, in training and in "
        "validation, and no "
        "element-wise loss broadcast its arguments against each other.",
        faults=(
            "the head emits other classes or times, cropped later",
            "channels and time are swapped",
            "labels (B, 1) meet logits (B,)",
        ),
        limits="Without declared shapes only the loss's arguments are judged. Losses written by hand are not seen.",
    ),
)
