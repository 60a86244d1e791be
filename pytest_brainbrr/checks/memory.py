"""Graphs end with their iteration."""

import itertools
from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import Event, error
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
    # A history that grows by the same amount in every step, not one that is longer once (longer inputs), nor one that
    # leads to more parameters (layers thawed one after another).
    longer = len(nodes) == 3 and nodes[2] >= 2 * nodes[0] > 0 and _equal_steps(nodes) and not _reaches_more(trace)
    sums = _sawtooth(trace)
    growing = len(watched) >= 3 and all(a < b for a, b in itertools.pairwise(watched))
    found = len(census) >= 3 and all(a < b for a, b in itertools.pairwise(census))
    if growing or found or longer or sums:
        by_losses = growing or longer or sums is not None
        yield error(
            "graphs-end",
            "<losses>" if by_losses else "<activations>",
            "more graphs are alive after every step: memory grows until the process is killed",
            cause="losses or outputs are appended to a list, or summed up, with their history"
            if by_losses
            else "activations are kept in an attribute or list with their history",
            hint="keep loss.item() or tensor.detach()",
            alive=watched if growing else (census if found else (sums or nodes)),
        )


def _sawtooth(trace: Trace) -> list[int] | None:
    """Return how many graphs of earlier backwards live at each border, if they pile up and are let go again and again.

    Such is a sum of losses that starts anew in every epoch. Every step must have the same number of backwards, none of
    which retains its graph: then nothing but a reference can keep one alive.
    """
    borders = [event for event in trace.events("memory") if event.get("histories") is not None]
    alive = [event["histories"] for event in borders]
    backwards = trace.events("backward")
    if len(alive) < 3 or any(event["retain_graph"] or event["create_graph"] for event in backwards):
        return None
    ends = [-1, *(event["n"] for event in borders)]
    per_step = [sum(before < event["n"] < end for event in backwards) for before, end in itertools.pairwise(ends)]
    if len(set(per_step[1:])) > 1:
        return None
    begins = [0, *(place for place in range(1, len(alive)) if alive[place] <= alive[place - 1]), len(alive)]
    teeth = [alive[begin:end] for begin, end in itertools.pairwise(begins)]
    rising = {later - earlier for tooth in teeth for earlier, later in itertools.pairwise(tooth)}
    piled = max(len(tooth) for tooth in teeth) >= 3 or sum(len(tooth) == 2 for tooth in teeth) >= 3
    # The last step of the run may stand alone.
    whole = all(len(tooth) > 1 and tooth[0] == teeth[0][0] for tooth in teeth[:-1]) and teeth[-1][0] == teeth[0][0]
    return alive if piled and whole and len(rising) == 1 else None


def _reaches_more(trace: Trace) -> bool:
    """Return whether the backward of the sixth step reached parameters that those of the first two did not."""
    touched = [{each for event in _backwards(trace, steps) for each in event["touched"]} for steps in ((0, 1), (4, 5))]
    return bool(touched[1] - touched[0])


def _backwards(trace: Trace, steps: tuple[int, ...]) -> list[Event]:
    """Return the backward calls that came after so many steps."""
    return [event for event in trace.events("backward") if event["step"] in steps]


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
        faults=(
            "losses.append(loss)",
            "total += loss, in every epoch anew",
            "activations kept for later",
            "a hook more with every step",
        ),
        limits="Needs four steps; tensors kept without history are not judged. Graphs that are let go again after a "
        "few steps are judged where every step has as many backwards, and none retains its graph.",
    ),
)
