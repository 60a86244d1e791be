"""Losses that are summed over a batch are divided."""

from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import Event, finite_number, loss_calls, prediction, turns, warning
from pytest_brainbrr.checks.loss import explained, no_loss, product
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

SURE = 1e-5
"""Relative difference below which a root is the sum of the losses seen and nothing else."""


def summed(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """A loss summed over the batch is divided before backward."""
    trace = traces["straight"]
    losses, grads = loss_calls(trace), {event["call"]: event for event in trace.events("loss_grad")}
    reached = [
        (backward, number) for backward in trace.events("backward") for number in backward["losses"] if number in losses
    ]
    if not reached:
        raise Vacuous(no_loss(trace))
    found = (_summed_table(trace, backward, grads, losses) or _plain_sum(backward, losses) for backward, _ in reached)
    table = next(filter(None, found), None)
    if table is not None:
        yield table
        return
    if any(explained(backward, grads, losses, SURE) is None for backward, _ in reached):
        raise Vacuous("the losses are not all of the root: a sum of terms is one objective of its author's making")
    for backward, number in reached:
        loss, coefficient = losses[number], (grads.get(number) or {}).get("output_grad")
        rows = (prediction(loss) or {}).get("shape") or [1]
        if loss["reduction"] != "sum" or not finite_number(coefficient) or product(rows) < 2:
            continue
        if abs(abs(coefficient) / (backward["scale"] or 1.0) - 1.0) < 1e-6:
            yield warning(
                "loss-summed",
                loss["function"],
                "the loss is a sum over the batch that nobody divides: the gradient grows with the batch",
                cause="reduction='sum' with a learning rate made for a mean",
                hint="use reduction='mean', or divide by the number of samples",
                elements=product(rows),
            )
            return


def _summed_table(
    trace: Trace, backward: Event, grads: Mapping[int, Event], losses: Mapping[int, Event]
) -> Finding | None:
    """Warn of a table of losses, one per element, of which those that a mask lets through are summed and not divided.

    Each counts with a coefficient of 1, or of what is left where micro-batches are accumulated, and nothing is added.
    """
    if len(backward["losses"]) != 1:
        return None
    loss = losses[backward["losses"][0]]
    grad, shape = grads.get(loss["call"]) or {}, list((loss["output"] or {}).get("shape") or [])
    numbers = (
        grad.get("output_grad_largest"),
        grad.get("output_grad"),
        (backward["root"] or {}).get("mean"),
        (loss["output"] or {}).get("mean"),
    )
    if loss["reduction"] != "none" or not shape or shape[0] < 2 or not all(map(finite_number, numbers)):
        return None
    largest, total, root, mean = (float(number or 0) for number in numbers)
    factor = largest / (backward["scale"] or 1.0)
    parts = round(1 / factor) if factor > 0 else 0
    micro = max((len(turn.backwards) for found in turns(trace).values() for turn in found), default=1)
    if parts not in {1, micro} or abs(factor * parts - 1) > 1e-6 or total < 2 * largest:
        return None
    if abs(root) > abs(mean) * product(shape) * largest * (1 + SURE):
        return None  # something is added
    return warning(
        "loss-summed",
        loss["function"],
        "the losses of all elements are summed and nobody divides: the gradient grows with the batch",
        cause="`(loss * mask).sum()` without a division by `mask.sum()`",
        hint="divide by the number of elements that count",
        elements=round(total / largest),
    )


def _plain_sum(backward: Event, losses: Mapping[int, Event]) -> Finding | None:
    """Warn of a root that is the plain sum of as many numbers as a table of losses holds, whatever each one weighs."""
    whole = backward["summed"]
    if not whole or not finite_number(whole["factor"]) or whole["shape"][:1] in ([], [1]):
        return None
    tables = [losses[number] for number in backward["losses"] if number in losses]
    sizes = {product((loss["output"] or {}).get("shape") or []) for loss in tables if loss["reduction"] == "none"}
    undivided = abs(abs(whole["factor"]) / (backward["scale"] or 1.0) - 1.0) < 1e-6
    if product(whole["shape"]) not in sizes or not undivided:
        return None
    return warning(
        "loss-summed",
        tables[0]["function"],
        "the losses of all samples are summed up and nobody divides: the gradient grows with the batch",
        cause="a sum by hand, with the division forgotten or by 1",
        hint="divide by the number of samples that count",
        elements=product(whole["shape"]),
    )


CHECKS: tuple[Check, ...] = (
    Check(
        "loss-summed",
        "A summed loss is divided before backward.",
        "loss",
        summed,
        proves="The coefficient of a summed loss that is all of the root is not 1.",
        faults=("reduction='sum'", "(loss * mask).sum() without a division"),
        limits="Warns only: some objectives are sums on purpose.",
    ),
)
