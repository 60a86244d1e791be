"""Schedules step after the optimizer, once per step or epoch, and drive the optimizer that steps."""

import itertools
from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import Event, error, finite_number, stepping, turns, warning
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

FLOOR_STEPS, FALLEN = 3, 20.0
"""Equal rates at the end of a run, below this part of the highest one, are a schedule that is over."""


def _outer(trace: Trace) -> dict[str, Event]:
    """Return the schedulers that no other one steps, by id.

    Raises:
        Vacuous: there is none.
    """
    found = {event["id"]: event for event in trace.events("scheduler", action="init") if not event["inner"]}
    inner = {event["id"] for event in trace.events("scheduler") if event["inner"]}
    found = {identity: event for identity, event in found.items() if identity not in inner}
    if not found:
        raise Vacuous(trace.lost("schedulers") or "no torch learning-rate scheduler was made")
    return found


def _attempts(trace: Trace, optimizer: str) -> list[int]:
    """Return the order of the steps of an optimizer, those that a scaler skipped included."""
    taken = [step["n"] for step in trace.steps if step["optimizer"] == optimizer]
    skipped = [event["n"] for event in trace.events("scaler", action="step", optimizer=optimizer) if event["skipped"]]
    return sorted(taken + skipped)


def after_optimizer(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """The first step of a schedule follows the first step of its optimizer."""
    trace = traces["straight"]
    judged = False
    for identity, made in _outer(trace).items():
        attempts = _attempts(trace, made["optimizer"])
        moves = [event for event in trace.events("scheduler", action="step", id=identity) if event["argument"] is None]
        if not attempts or not moves:
            continue
        judged = True
        if moves[0]["n"] < attempts[0]:
            early = sum(move["n"] < attempts[0] for move in moves)
            yield error(
                "schedule-after-step",
                made["class"],
                "the schedule stepped before the optimizer: the first learning rate is skipped and all others come "
                "one step early",
                cause="scheduler.step() stands before optimizer.step(), or is called for every micro-batch",
                hint="call scheduler.step() after optimizer.step()",
                early=early,
            )
    if not judged:
        raise Vacuous("no schedule and its optimizer both stepped")


def drives(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """A schedule drives the optimizer that takes the steps."""
    trace = traces["straight"]
    found, made = stepping(trace), _outer(trace)
    holders = {event["id"]: event for event in trace.events("optimizer")}
    for identity, schedule in made.items():
        moves = trace.events("scheduler", action="step", id=identity)
        own = holders.get(schedule["optimizer"])
        if schedule["optimizer"] in found or not moves or own is None:
            continue
        theirs = {parameter for group in own["groups"] for parameter in group["parameters"]}
        last = moves[-1]["rates"]
        for turns_ in found.values():
            step = turns_[-1].step
            shared = theirs.intersection(turns_[-1].parameters)
            rates = [group.get("lr") for group in step["groups"]]
            before = [event["rates"] for event in moves if event["n"] < step["n"]]
            follows = not before or [round(rate, 12) for rate in before[-1]] == [
                round(rate, 12) for rate in rates if finite_number(rate)
            ]
            if shared and not follows:
                yield error(
                    "schedule-drives-optimizer",
                    schedule["class"],
                    "the schedule drives an optimizer that never steps; the one that does keeps its learning rate",
                    cause="the optimizer was made anew after the schedule was built on the first one",
                    hint="build the schedule last, on the optimizer that is used",
                    schedule=last,
                    optimizer=rates,
                )
                break


def _train_epochs(trace: Trace) -> list[Event]:
    """Return passes over training loaders that were exhausted and followed by a step of a later pass."""
    training = {loader["id"] for loader in trace.loaders("train")}
    over = (*trace.events("epoch", action="end"), *trace.events("epoch", action="cut"))
    ended = [event for event in over if event["loader"] in training and event["batches"]]
    last = max((step["n"] for step in trace.steps), default=-1)
    return [event for event in ended if event["n"] < last]


def moves_on(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """A schedule that was made is stepped."""
    trace = traces["straight"]
    made, found = _outer(trace), stepping(trace)
    ended = _train_epochs(trace)
    judged = False
    for identity, schedule in made.items():
        steps = found.get(schedule["optimizer"], [])
        moves = trace.events("scheduler", action="step", id=identity)
        if moves:
            judged = True
            continue
        by_step = schedule["class"] in {"OneCycleLR", "CyclicLR"} and len(steps) >= 3
        by_epoch = bool(ended) and schedule["class"] != "ReduceLROnPlateau" and len(steps) >= 2
        rates = {tuple(group.get("lr") for group in turn.step["groups"]) for turn in steps}
        if trace.events("scheduler", action="step", optimizer=schedule["optimizer"]):
            continue  # Another schedule of this optimizer has its turn first: a warm-up, averaging at the end.
        if schedule.get("waits"):
            continue  # Its turn comes after some epochs.
        if (by_step or by_epoch) and len(rates) == 1:
            judged = True
            yield error(
                "schedule-steps",
                schedule["class"],
                "a schedule was made and never stepped, not even at the end of an epoch: the learning rate stays "
                "where it began",
                cause="scheduler.step() is missing",
                hint="call scheduler.step() after each optimizer step, or after each epoch, as the schedule is counted",
                steps=len(steps),
                epochs=len(ended),
            )
    if not judged:
        raise Vacuous("the schedule did not step, and no epoch ended within the run: it may be counted in epochs")


def _by_the_wrong_clock(trace: Trace) -> Iterator[Finding]:
    """Yield schedules planned for as many steps as the framework will take, and told to step once per epoch."""
    for event in trace.events("declared"):
        for schedule in event["schedules"]:
            planned = schedule["planned"]
            if schedule["interval"] == "epoch" and planned == event["steps"] != event["epochs"] and planned is not None:
                yield error(
                    "schedule-pace",
                    schedule["class"],
                    "the schedule is planned in optimizer steps and stepped once per epoch: it hardly begins",
                    cause="Lightning steps a schedule per epoch unless its configuration says interval='step'",
                    hint="return {'scheduler': ..., 'interval': 'step'} from configure_optimizers",
                    planned=planned,
                    epochs=event["epochs"],
                )
                return


def pace(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """A schedule takes one step per optimizer step at most, and does not run past its end."""
    trace = traces["straight"]
    made = _outer(trace)
    world = max((event.get("world_size") or 1 for event in trace.events("distributed", role=None)), default=1)
    judged = False
    for found in _by_the_wrong_clock(trace):
        judged = True
        yield found
    for identity, schedule in made.items():
        attempts = _attempts(trace, schedule["optimizer"])
        moves = [event for event in trace.events("scheduler", action="step", id=identity) if event["argument"] is None]
        if len(attempts) < 3 or not moves:
            continue
        judged = True
        doubled = sum(
            sum(before < move["n"] < after for move in moves) >= 2 for before, after in itertools.pairwise(attempts)
        )
        if world == 1 and doubled >= len(attempts) - 1:
            yield error(
                "schedule-pace",
                schedule["class"],
                "the schedule stepped several times between two optimizer steps: it ends long before training does",
                cause="scheduler.step() is called in two places, or for every micro-batch",
                hint="step the schedule once per optimizer step",
                schedule_steps=len(moves),
                optimizer_steps=len(attempts),
            )
            continue
        end = schedule["options"].get("T_max")
        count = moves[-1]["last_epoch"]
        used = [event for event in moves if event["n"] < attempts[-1]]
        if (
            schedule["class"] == "CosineAnnealingLR"
            and finite_number(end)
            and used
            and finite_number(count)
            and used[-1]["last_epoch"] > end
        ):
            yield error(
                "schedule-pace",
                schedule["class"],
                "training went on after the schedule had reached its end: a cosine rises again there",
                cause="T_max counts epochs, and step() is called for every batch",
                hint="set T_max to the number of optimizer steps, or step once per epoch",
                t_max=end,
                steps=count,
            )
            continue
        rates = [turn.step["groups"][0].get("lr") for turn in turns(trace).get(schedule["optimizer"], [])]
        known = [rate for rate in rates if finite_number(rate) and rate > 0]
        if len(known) > FLOOR_STEPS and len(set(known[-FLOOR_STEPS:])) == 1 and known[-1] < max(known) / FALLEN:
            yield warning(
                "schedule-pace",
                schedule["class"],
                "the learning rate fell to a floor within a few steps and stays there while training goes on",
                cause="the schedule's length is counted in epochs, or in fewer steps than are taken",
                hint="give the schedule the number of steps that are taken",
                highest=max(known),
                floor=known[-1],
            )
            continue
        planned = schedule["options"].get("total_steps") or schedule["options"].get("total_iters") or end
        short = finite_number(planned) and planned <= len(attempts) + 1
        if (
            schedule["class"] in {"StepLR", "MultiStepLR", "ExponentialLR"}
            and not short
            and len(known) > 2
            and known[-1] < known[0] / 100
        ):
            yield warning(
                "schedule-pace",
                schedule["class"],
                "the learning rate fell by more than a factor of 100 within a few steps",
                cause="a schedule meant for epochs is stepped for every batch",
                hint="step it at the end of an epoch",
                first=known[0],
                last=known[-1],
            )
    if not judged:
        raise Vacuous("no schedule stepped over three steps of its optimizer")


CHECKS: tuple[Check, ...] = (
    Check(
        "schedule-drives-optimizer",
        "A schedule drives the optimizer that steps.",
        "schedule",
        drives,
        cut=True,
        proves="The optimizer of every schedule takes steps, or the one that does follows its rates.",
        faults=("optimizer rebuilt after the schedule",),
        limits="Schedules written by hand are not seen.",
    ),
    Check(
        "schedule-after-step",
        "A schedule steps after its optimizer.",
        "schedule",
        after_optimizer,
        cut=True,
        proves="The first step of each schedule follows an attempted step of its optimizer.",
        faults=("scheduler.step() before optimizer.step()", "schedule stepped for every micro-batch"),
        limits="Steps with an explicit position are not judged.",
    ),
    Check(
        "schedule-steps",
        "A schedule that was made is stepped.",
        "schedule",
        moves_on,
        cut=True,
        proves="Each schedule stepped at least once by the end of the first epoch.",
        faults=("scheduler.step() forgotten",),
        limits="Needs an epoch that ends within the run, unless the schedule counts batches by nature.",
    ),
    Check(
        "schedule-pace",
        "A schedule keeps pace with training.",
        "schedule",
        pace,
        proves="At most one schedule step per optimizer step, and none beyond T_max.",
        faults=(
            "a horizon counted in epochs",
            "an epoch schedule stepped per batch",
            "a step schedule stepped per epoch",
            "stepped in two places",
        ),
        limits="A very steep decay only warns, and so does a floor that is reached early.",
    ),
)
