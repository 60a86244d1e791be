"""Gradients reach every trainable parameter, at some step at least."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def judge_gradient_flow(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Look for parameters that never got a finite gradient, and name their modules."""
    trace = traces["straight"]
    lost = trace.lost("gradients", "models", "optimizers")
    if lost:
        raise Vacuous(lost)
    backwards = trace.events("backward")
    if not backwards:
        raise Vacuous("no backward was seen")
    optimized = trace.optimized
    expected = {
        identity: fact
        for identity, fact in trace.trainable.items()
        if (not optimized or identity in optimized) and not _declared(fact["name"], (*target.unused, *target.frozen))
    }
    waiting = _waiting(trace)
    expected = {identity: fact for identity, fact in expected.items() if optimized.get(identity) not in waiting}
    if not expected:
        raise Vacuous("no trainable parameter of a known model is in an optimizer")
    touched = {identity for event in backwards for identity in event["touched"]}
    elsewhere = _reached_elsewhere(trace, optimized)
    by_value = all(event["function"] == "grad" for event in backwards)
    if by_value and not optimized and not (touched | elsewhere) & expected.keys():
        raise Vacuous("gradients are returned by torch.autograd.grad or torch.func and used out of sight")
    called = _called(trace)
    never = {identity: fact for identity, fact in expected.items() if identity not in touched | elsewhere}
    offsets = _offsets(trace, expected, backwards)
    if any(event["function"] == "grad" and event["create_graph"] for event in backwards):
        never = {identity: fact for identity, fact in never.items() if identity not in offsets}
    chosen = _chosen(trace, backwards)
    for path, members in _by_module(never, expected, chosen).items():
        yield _untouched(path, members, was_called=_below(called, members))
    scaled = any(event["enabled"] for event in trace.events("scaler"))
    for identity, fact in expected.items():
        events = [event for event in backwards if identity in event["touched"]]
        if events and all(identity in event["raw_nonfinite"] for event in events) and not scaled:
            yield Finding(
                "gradient-flow",
                fact["name"],
                "error",
                "its gradient was never finite",
                {"backwards": len(events)},
                cause="an overflow, a division by zero or a logarithm of zero in the loss or in a layer behind it",
                hint="run once under torch.autograd.detect_anomaly() to find the first operation that gives NaN",
            )
    yield from _dead_inputs(trace, target)
    zero = {
        identity: fact
        for identity, fact in expected.items()
        if identity in touched - offsets
        and len(trace.steps) > 2
        and _always_zero(identity, backwards)
        and _moved(trace)
    }
    for path, members in _by_module(zero, expected).items():
        yield Finding(
            "gradient-flow",
            path,
            "warning",
            "its gradient was exactly zero at every backward",
            {"parameters": [fact["name"] for fact in members][:8]},
            cause="what it computes is multiplied by zero, clipped away or masked before the loss",
            hint="follow its output to the loss; a zero factor that never moves stops all learning here",
        )


def _dead_inputs(trace: Trace, target: Target) -> Iterator[Finding]:
    """Warn of layers of which a whole stretch of inputs is zero in every call: what made it never arrives."""
    seen: dict[str, dict[int, list[int] | None]] = {}
    for call in trace.train_calls:
        if call["inner_numbers"]:
            for inner in call["inner"] or []:
                seen.setdefault(inner["path"], {})[call["step"]] = inner.get("dead")
    for path, steps in seen.items():
        # At two moments with a step between: what begins at zero has left it by then.
        first, *others = list(steps.values())
        if first and others and all(stretch == first for stretch in others) and not _declared(path, (*target.unused,)):
            yield Finding(
                "gradient-flow",
                path,
                "warning",
                "a whole stretch of what this layer is given is zero in every call: its weights there never learn",
                {"inputs": first[2], "zero": first[1] - first[0], "from": first[0]},
                cause="a skip connection or branch is multiplied by zero, or left out of what is put together here",
                hint="look at what is concatenated before this layer",
            )


def _untouched(path: str, members: list[dict[str, Any]], *, was_called: bool) -> Finding:
    names = [fact["name"] for fact in members]
    if was_called:
        return Finding(
            "gradient-flow",
            path,
            "error",
            "was called in training, but no gradient ever reached it",
            {"parameters": names[:8], "count": len(names)},
            cause="its output is detached from the loss: .detach(), .data, .item(), torch.no_grad() or a "
            "conversion through numpy",
            hint="follow its output to the loss and remove what cuts the graph, or freeze it and keep it out "
            "of the optimizer",
        )
    return Finding(
        "gradient-flow",
        path,
        "warning",
        "is in the optimizer, but takes no part in the training forward",
        {"parameters": names[:8], "count": len(names)},
        cause="a branch, skip connection or head that forward() never uses",
        hint="use it, remove it, or declare it in Target(unused=[...])",
    )


def _reached_elsewhere(trace: Trace, optimized: Mapping[str, str]) -> set[str]:
    """Return parameters that learn although nothing accumulated in ``.grad``: torch.autograd.grad, torch.func.

    Either their gradient was written by hand (a step used it: the way of meta-learning, of federated averages, of sums
    over copies), or their optimizer moved them without one, or no optimizer holds them and they moved. Weight decay
    moves what has a zero gradient, not what has none.
    """
    facts = [fact for step in trace.steps for fact in step["parameters"]]
    if not trace.events("backward", function="grad"):
        return {fact["id"] for fact in facts if fact["grad"] in {"finite", "nonfinite"}}
    found = {fact["id"] for fact in facts if fact["grad"] in {"finite", "nonfinite"}}
    found |= {fact["id"] for fact in facts if fact["grad"] == "none" and fact["moved"]}
    moved = {identity for event in trace.events("weights") for identity in event["moved"]}
    return found | (moved - optimized.keys())


def _chosen(trace: Trace, backwards: list[dict[str, Any]]) -> set[str]:
    """Return paths of lists of modules that take turns: experts, branches of a supernet, heads of tasks.

    Some backward reached members that another left out, and the other way round, so more may wait for their turn.
    """
    lists: dict[str, list[set[str]]] = {}
    for event in backwards:
        reached: dict[str, set[str]] = {}
        for identity in event["touched"]:
            parts = trace.name(identity).split(".")
            for place, part in enumerate(parts):
                if place and part.isdigit():
                    reached.setdefault(".".join(parts[:place]), set()).add(part)
        for path, members in reached.items():
            lists.setdefault(path, []).append(members)
    return {path for path, turns in lists.items() if any(one - other and other - one for one, other in pairwise(turns))}


def _offsets(trace: Trace, expected: Mapping[str, Any], backwards: list[dict[str, Any]]) -> set[str]:
    """Return biases that do not learn beside a weight of the same module that does: their loss has a free offset.

    So have a loss of derivatives (an energy whose forces are fitted) and one of differences (critics, rankings).
    """
    learning = {
        trace.name(identity) for event in backwards for identity in set(event["touched"]) - set(event["raw_zero"])
    }
    return {
        identity
        for identity, fact in expected.items()
        if fact["name"].rpartition(".")[2] == "bias"
        and fact["name"] not in learning
        and fact["name"].removesuffix("bias") + "weight" in learning
    }


def _called(trace: Trace) -> set[tuple[str, str]]:
    """Return model and path of modules called in training forwards, as far as inner calls were seen."""
    found: set[tuple[str, str]] = set()
    for call in trace.train_calls:
        found.update((call["model"], inner["path"]) for inner in call["inner"] or [])
        if call["path"]:
            found.add((call["model"], call["path"]))
    return found


def _below(called: set[tuple[str, str]], members: list[dict[str, Any]]) -> bool:
    """Return whether a module that owns one of these parameters itself was called."""
    return any((fact["model"], fact["name"].rpartition(".")[0].rpartition("/")[2]) in called for fact in members)


def _waiting(trace: Trace) -> set[str]:
    """Return optimizers whose turn has not come: no step, models never called to train, while another steps.

    The next fold or stage builds its own before the run is stopped.
    """
    stepped = {step["optimizer"] for step in trace.steps}
    called = {call["model"] for call in trace.train_calls}
    parameters = trace.parameters
    waiting = set[str]()
    for optimizer in trace.events("optimizer"):
        members = [identity for group in optimizer["groups"] for identity in group["parameters"]]
        models = {parameters[identity]["model"] for identity in members if identity in parameters}
        if stepped and optimizer["id"] not in stepped and models.isdisjoint(called):
            waiting.add(optimizer["id"])
    return waiting


def _by_module(
    never: Mapping[str, dict[str, Any]], expected: Mapping[str, dict[str, Any]], without: AbstractSet[str] = frozenset()
) -> dict[str, list[dict[str, Any]]]:
    """Group parameters under the outermost module of which nothing else is left; leave out members of some lists."""
    everything = [fact["name"] for fact in expected.values()]
    names = {fact["name"] for fact in never.values()}
    groups: dict[str, list[dict[str, Any]]] = {}
    for fact in never.values():
        parts, path = fact["name"].split("."), fact["name"]
        for end in range(1, len(parts)):
            prefix = ".".join(parts[:end]) + "."
            if all(name in names for name in everything if name.startswith(prefix)):
                path = prefix[:-1]
                break
        groups.setdefault(path, []).append(fact)
    return {path: members for path, members in groups.items() if path.rpartition(".")[0] not in without}


def _always_zero(identity: str, backwards: list[dict[str, Any]]) -> bool:
    events = [event for event in backwards if identity in event["touched"]]
    return bool(events) and all(identity in event["raw_zero"] for event in events)


def _moved(trace: Trace) -> bool:
    """Return whether some parameter changed at two steps or more: else a zero start explains zero gradients."""
    return sum(any(fact["moved"] for fact in step["parameters"]) for step in trace.steps) >= 3


def _declared(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


CHECKS: tuple[Check, ...] = (
    Check(
        id="gradient-flow",
        title="every trainable parameter gets a finite gradient at some step",
        group="wiring",
        judge=judge_gradient_flow,
        proves="Counted at the parameters themselves, before clipping: each one that an optimizer holds "
        "accumulated a finite "
        "gradient in some backward.",
        faults=(
            "`.detach()` or `.data` between encoder and head",
            "a branch that forward never uses",
            "a skip connection multiplied by zero",
            "gradients that are never finite",
        ),
        limits="Parameters held by no optimizer are judged by other checks. A module that is never called in "
        "training is a warning: it may be meant so. Where gradients are returned (torch.autograd.grad) instead of "
        "accumulated, weights that move stand for gradients. A bias that a loss of derivatives cannot see is left "
        "out.",
    ),
)
