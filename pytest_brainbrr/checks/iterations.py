"""What happened around each optimizer step, and short names for sets of parameters. Shared by checks of training."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, TypeGuard

from pytest_brainbrr.checks.base import Vacuous
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

Event = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Turn:
    """One optimizer step, and what came since the same optimizer's last one."""

    optimizer: str
    step: Event
    before: Event | None
    """The optimizer's step before this one."""
    backwards: list[Event] = field(default_factory=list)
    """Backward calls since then that reached a parameter of this optimizer."""

    @property
    def parameters(self) -> dict[str, Event]:
        """Facts of the step by parameter id."""
        return {fact["id"]: fact for fact in self.step["parameters"]}

    @property
    def forwards(self) -> set[int]:
        """Numbers of the model calls that the backward calls reached."""
        return {call for backward in self.backwards for call in backward["forwards"]}


@lru_cache(maxsize=16)
def turns(trace: Trace) -> dict[str, list[Turn]]:
    """Return the steps of every optimizer, in order, with the backward calls that belong to each."""
    backwards = trace.events("backward")
    found: dict[str, list[Turn]] = {}
    for step in trace.steps:
        earlier = found.setdefault(step["optimizer"], [])
        before = earlier[-1].step if earlier else None
        held = {fact["id"] for fact in step["parameters"]}
        since = before["n"] if before else -1
        own = [event for event in backwards if since < event["n"] < step["n"] and held.intersection(event["touched"])]
        earlier.append(Turn(step["optimizer"], step, before, own))
    return found


def stepping(trace: Trace) -> dict[str, list[Turn]]:
    """Return :func:`turns`.

    Raises:
        Vacuous: no optimizer took a step.
    """
    found = turns(trace)
    if not found:
        raise Vacuous(no_steps(trace))
    return found


def no_steps(trace: Trace) -> str:
    """Say why there is no step to judge."""
    lost = trace.lost("optimizers")
    return lost or "no step of a torch optimizer was seen"


def calls(trace: Trace) -> dict[int, Event]:
    """Return model calls of the main process by number."""
    return {event["call"]: event for event in trace.events("forward", after=True)}


def loss_calls(trace: Trace) -> dict[int, Event]:
    """Return loss calls by number."""
    return {event["call"]: event for event in trace.events("loss", after=True)}


def argument(loss: Event, *names: str) -> Event | None:
    """Return the facts of an argument of a loss call."""
    return next((fact for fact in loss["args"] if fact["at"] in names), None)


def prediction(loss: Event) -> Event | None:
    """Return the facts of what a loss call judges."""
    return argument(loss, "input", "log_probs", "anchor", "input1")


def value_of(loss: Event | None) -> Any:
    """Return the value of a loss call, or None."""
    return ((loss or {}).get("output") or {}).get("mean")


def modules(trace: Trace) -> Iterator[tuple[str, str, Event]]:
    """Yield root id, path and facts of every module of every root."""
    for model in trace.models.values():
        for module in model["modules"]:
            yield model["id"], module["path"], module


def declared(name: str, patterns: Iterable[str]) -> bool:
    """Return whether the target's owner named this parameter, with or without the label of its root."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name.rpartition("/")[2], pattern) for pattern in patterns)


def places(trace: Trace, ids: Iterable[str]) -> str:
    """Name a set of parameters by the fewest module paths that hold all of them and no other trainable parameter.

    Names are sorted and cut after three, so that the text is the same in every run.
    """
    wanted = {trace.name(identity) for identity in ids}
    others = {str(fact["name"]) for fact in trace.trainable.values()} - wanted
    chosen: set[str] = set()
    for name in wanted:
        parts = name.split(".")
        prefix = name
        for length in range(1, len(parts)):
            candidate = ".".join(parts[:length])
            if not any(other.startswith(candidate + ".") for other in others):
                prefix = candidate
                break
        chosen.add(prefix)
    ordered = sorted(chosen)
    return ", ".join(ordered[:3]) + (", ..." if len(ordered) > 3 else "")


def optimizer_name(trace: Trace, identity: str) -> str:
    """Return the class of an optimizer, numbered if there are several of that class."""
    classes: dict[str, str] = {}
    for event in trace.events("optimizer"):
        classes.setdefault(event["id"], str(event["class"]).rpartition(".")[2])
    name = classes.get(identity, "optimizer")
    same = [other for other, kind in classes.items() if kind == name]
    return name if len(same) < 2 or identity not in same else f"{name}-{same.index(identity) + 1}"


def error(check: str, where: str, message: str, *, cause: str = "", hint: str = "", **evidence: Any) -> Finding:
    """Return a finding that makes the check fail."""
    return Finding(check, where or "<root>", "error", message, evidence, cause, hint)


def warning(check: str, where: str, message: str, *, cause: str = "", hint: str = "", **evidence: Any) -> Finding:
    """Return a finding that only warns."""
    return Finding(check, where or "<root>", "warning", message, evidence, cause, hint)


def finite_number(value: Any) -> TypeGuard[float]:
    """Return whether this is a number, finite and no flag."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def same_batch(first: Event, second: Event) -> bool:
    """Return whether two model calls were fed from one batch: the same loader position or an equal input."""
    if first.get("loader") and second.get("loader"):
        return bool(first["loader"] == second["loader"])
    one = {fact["digest"] for fact in first["inputs"] if fact.get("digest")}
    return bool(one & {fact["digest"] for fact in second["inputs"] if fact.get("digest")})


def straight(traces: Mapping[str, Trace], target: Target | None = None) -> Trace:
    """Return the plain run."""
    return traces["straight"]
