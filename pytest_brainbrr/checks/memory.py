"""Graphs end with their iteration."""

import itertools
from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import error
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def graphs_end(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """The number of live graphs does not grow with every step."""
    trace = traces["straight"]
    borders = trace.events("memory")
    watched = [event["graphs"] for event in borders][1:]
    census = [event["graph_tensors"] for event in borders if event["graph_tensors"] is not None]
    hooks = [event["hooks"] for event in borders if event.get("hooks") is not None]
    if len(hooks) >= 4 and all(a < b for a, b in itertools.pairwise(hooks)):
        yield error(
            "graphs-end",
            "<hooks>",
            "hooks on the model's modules become more with every step: each call runs all of them",
            cause="register_forward_hook is called inside the loop, and its handle is never removed",
            hint="register hooks once, or remove the handle at the end of the iteration",
            hooks=hooks,
        )
        return
    if len(watched) < 3 and len(census) < 3:
        raise Vacuous(trace.lost("memory") or "memory was seen at fewer than three steps after the first")
    nodes = [event.get("graph_nodes") or 0 for event in borders if event["step"] in {2, 4, 6}]
    # A history that grows by the same amount in every step, not one that is longer once (layers thawed, longer inputs).
    longer = len(nodes) == 3 and nodes[2] >= 2 * nodes[0] > 0 and _equal_steps(nodes)
    growing = len(watched) >= 3 and all(a < b for a, b in itertools.pairwise(watched))
    found = len(census) >= 3 and all(a < b for a, b in itertools.pairwise(census))
    if growing or found or longer:
        yield error(
            "graphs-end",
            "<losses>" if growing or longer else "<activations>",
            "more graphs are alive after every step: memory grows until the process is killed",
            cause="losses or outputs are appended to a list, or summed up, with their history"
            if growing or longer
            else "activations are kept in an attribute or list with their history",
            hint="keep loss.item() or tensor.detach()",
            alive=watched if growing else (census if found else nodes),
        )


def _equal_steps(numbers: list[int]) -> bool:
    first, second = numbers[1] - numbers[0], numbers[2] - numbers[1]
    return first > 0 and abs(second - first) <= 0.25 * first


CHECKS: tuple[Check, ...] = (
    Check(
        "graphs-end",
        "Graphs end with their iteration.",
        "memory",
        graphs_end,
        cut=True,
        proves="Tensors with history do not become more with every step, nor does their history grow with the number "
        "of steps.",
        faults=("losses.append(loss)", "total += loss", "activations kept for later", "a hook more with every step"),
        limits="Needs four steps; tensors kept without history are not judged.",
    ),
)
