"""Options of optimizers: learning rates above zero, and numbers of an order of magnitude that trains."""

from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import (
    Event,
    error,
    finite_number,
    no_steps,
    optimizer_name,
    stepping,
    turns,
    warning,
)
from pytest_brainbrr.checks.optimizer import STATEFUL
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def rate_positive(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Some step of every optimizer has a learning rate above zero."""
    trace = traces["straight"]
    found = stepping(trace)
    scheduled = {event["optimizer"] for event in trace.events("scheduler")}
    for optimizer, own in found.items():
        rates = [[group.get("lr") for group in turn.step["groups"]] for turn in own]
        known = [[rate for rate in row if finite_number(rate)] for row in rates]
        if len(own) < 2 or not all(known):
            continue
        resting = next((place for place, row in enumerate(known) if any(row)), len(known))
        first = next((event["n"] for event in trace.events("scheduler", action="step", optimizer=optimizer)), None)
        if (
            3 <= resting < len(known)
            and first is not None
            and own[resting - 1].step["n"] < first < own[resting].step["n"]
        ):
            yield error(
                "rate-positive",
                optimizer_name(trace, optimizer),
                "the learning rate was 0 until the schedule stepped for the first time, and that came late",
                cause="a warm-up from 0 that is meant for steps is stepped at the end of an epoch",
                hint="step a warm-up after every optimizer step, or begin it above 0",
                steps_at_zero=resting,
                steps=len(known),
            )
        if resting < len(known):
            yield from _faded(trace, optimizer, known)
            continue
        waiting = optimizer in scheduled and not trace.events("scheduler", action="step", optimizer=optimizer)
        yield (warning if waiting else error)(
            "rate-positive",
            optimizer_name(trace, optimizer),
            "the learning rate was 0 in every step",
            cause="a warm-up that is counted in epochs starts at 0"
            if waiting
            else "the learning rate is 0 or the schedule multiplies it by 0",
            hint="check what the optimizer was given, and the schedule's first values",
            steps=len(own),
        )


def _faded(trace: Trace, optimizer: str, rates: list[list[float]]) -> Iterator[Finding]:
    """Warn of rates that fall to zero while training goes on, or that are too small for any step to matter."""
    idle = next((place for place, row in enumerate(reversed(rates)) if any(row)), 0)
    if idle >= 3 and 2 * idle >= len(rates):
        yield warning(
            "rate-positive",
            optimizer_name(trace, optimizer),
            "training went on after the learning rate had fallen to 0: these steps change nothing",
            cause="the schedule's length is counted in epochs, or in fewer steps than are taken",
            hint="give the schedule the number of steps that are taken",
            steps_at_zero=idle,
            steps=len(rates),
        )
    kind = optimizer_name(trace, optimizer)
    if len(rates) >= 3 and any(name in kind for name in STATEFUL) and max(map(max, rates)) < 1e-8:
        yield warning(
            "rate-positive",
            kind,
            "the learning rate is so small in every step that weights hardly change",
            cause="a warm-up far longer than training, or a rate divided twice",
            hint="check the schedule's unit: steps, batches or epochs",
            largest=max(map(max, rates)),
        )


def sane(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Options of the optimizers lie within orders of magnitude of what trains."""
    trace = traces["straight"]
    if not trace.steps:
        raise Vacuous(no_steps(trace))
    kinds = {event["id"]: str(event["class"]).rpartition(".")[2] for event in trace.events("optimizer")}
    told: set[tuple[str, str]] = set()
    for step in trace.steps:
        kind = kinds.get(step["optimizer"], "")
        for group in step["groups"]:
            rate, decay, eps, betas = (group.get(name) for name in ("lr", "weight_decay", "eps", "betas"))
            pair = isinstance(betas, list) and len(betas) == 2 and all(finite_number(beta) for beta in betas)
            for name, value, strange, why in (
                ("weight_decay", decay, finite_number(decay) and decay >= 1.5, "weights shrink faster than they learn"),
                (
                    "eps",
                    eps,
                    finite_number(eps) and eps >= 0.05 and "Adam" in kind,
                    "the adaptive scale is drowned and steps become tiny",
                ),
                (
                    "lr",
                    rate,
                    finite_number(rate) and rate >= 0.5 and "Adam" in kind,
                    "every step moves each weight by about this much",
                ),
                (
                    "lr",
                    rate,
                    finite_number(rate) and rate >= 20 and kind == "SGD",
                    "gradients would have to be tiny for this not to diverge",
                ),
                (
                    "betas",
                    betas,
                    pair and isinstance(betas, list) and betas[0] > betas[1] and betas[0] >= 0.95 and "Adam" in kind,
                    "the average of squares forgets faster than that of gradients, as if the two were swapped",
                ),
            ):
                if strange and (kind, name) not in told:
                    told.add((kind, name))
                    yield warning(
                        "optimizer-options",
                        f"{kind}.{name}",
                        f"the option is orders of magnitude from what trains: {why}",
                        cause="a typing error, or a value meant for another optimizer",
                        hint="compare with the optimizer's default",
                        value=value,
                    )
    yield from _decayed(trace)


def _decayed(trace: Trace) -> Iterator[Finding]:
    """Warn of weight decay on all vectors of an optimizer and on none of its matrices."""
    for optimizer, found in turns(trace).items():
        yield from _marked(trace, optimizer, found[0].step)
        dims: dict[bool, set[bool]] = {True: set(), False: set()}
        for fact in found[0].step["parameters"]:
            shape = trace.parameters.get(fact["id"], {}).get("shape")
            if shape:
                decay = found[0].step["groups"][fact["group"]].get("weight_decay")
                dims[len(shape) > 1].add(finite_number(decay) and decay > 0)
        if dims[True] == {False} and dims[False] == {True}:
            yield warning(
                "optimizer-options",
                optimizer_name(trace, optimizer) + ".weight_decay",
                "weight decay falls on every bias and gain, and on no weight matrix",
                cause="the two parameter groups are swapped",
                hint="decay what has two dimensions or more",
            )


def _marked(trace: Trace, optimizer: str, step: Event) -> Iterator[Finding]:
    """Warn of parameters that their model marks to be left out of weight decay, and that groups made for it put in."""
    decays = [finite_number(value) and value > 0 for value in (group.get("weight_decay") for group in step["groups"])]
    marked = {
        fact["id"]: decays[fact["group"]]
        for fact in step["parameters"]
        if trace.parameters.get(fact["id"], {}).get("no_decay")
    }
    # Who makes no groups at all may not care; who does has decided about each parameter.
    if any(marked.values()) and not all(decays):
        yield warning(
            "optimizer-options",
            optimizer_name(trace, optimizer) + ".weight_decay",
            "weight decay falls on parameters that their model marks to be left out of it",
            cause="the groups go by name or shape and do not ask for the mark (_no_weight_decay)",
            hint="put marked parameters into the group without decay: state-space layers lose their memory otherwise",
            parameters=sum(marked.values()),
            marked=len(marked),
        )


CHECKS: tuple[Check, ...] = (
    Check(
        "rate-positive",
        "Learning rates are above zero at some step.",
        "optimizer",
        rate_positive,
        proves="No optimizer had a rate of 0 in all its steps.",
        faults=(
            "lr=0",
            "a schedule that multiplies by 0",
            "a schedule that ends long before training",
            "an endless warm-up",
        ),
        limits="One group of several at 0 is taken for frozen on purpose. Rates that fall to 0 or are tiny only warn.",
    ),
    Check(
        "optimizer-options",
        "Options are within orders of magnitude of what trains.",
        "optimizer",
        sane,
        proves="Weight decay, eps and learning rate of the steps.",
        faults=(
            "weight_decay=10",
            "eps=1.0",
            "lr=1 for Adam",
            "betas swapped",
            "decay on biases only",
            "decay on what is marked to be left out",
        ),
        limits="Warns only.",
    ),
)
