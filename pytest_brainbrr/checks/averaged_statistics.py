"""Running statistics of averaged weights: copied from the model, or measured anew, before they are used."""

from collections.abc import Iterator, Mapping

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import Event, error
from pytest_brainbrr.checks.modes import is_zeros, normalizes
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def _tail(name: str) -> str:
    """Return a name without the prefix that AveragedModel and other wrappers put before it."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")


def _means(facts: Event) -> dict[str, Event]:
    """Return name -> facts of every running mean of a root."""
    found = {}
    for module in facts["modules"]:
        name = f"{module['path']}.running_mean" if module["path"] else "running_mean"
        for buffer in facts["buffers"]:
            if buffer["name"] == name and normalizes(module):
                found[_tail(name)] = buffer
    return found


def _twins(trace: Trace) -> Iterator[tuple[str, str]]:
    """Yield each root that no optimizer holds, with the trained root that has the same names and shapes."""
    trained = {fact["model"] for identity, fact in trace.parameters.items() if identity in trace.optimized}
    shapes = {
        model: {_tail(fact["name"]): fact["shape"] for fact in facts["parameters"]}
        for model, facts in trace.models.items()
    }
    for model in trace.models.keys() - trained:
        for other in sorted(trained & trace.models.keys()):
            if shapes[model] and shapes[model] == shapes[other]:
                yield model, other
                break


def _follows(trace: Trace, model: str) -> bool:
    """Return whether the weights of a root moved without an optimizer, or are those of an AveragedModel in use."""
    states = [event["parameters"] for event in trace.events("weights", model=model)]
    if any(state != states[0] for state in states):
        return True
    return trace.models[model]["class"].endswith("AveragedModel") and any(
        (event["updates"] or 0) > 0 for event in trace.events("copy", form="AveragedModel")
    )


def _last(trace: Trace, model: str, before: int) -> dict[str, str]:
    events = [event for event in trace.events("weights", model=model) if event["n"] < before]
    return dict(events[-1]["buffers"]) if events else {}


def statistics_follow(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """A copy whose weights follow the model does not normalize with statistics that nobody ever measured."""
    trace = traces["straight"]
    judged = False
    for model, other in _twins(trace):
        means, theirs = _means(trace.models[model]), _means(trace.models[other])
        calls = [call for call in trace.events("forward") if call["model"] == model and not call["raised"]]
        # Called in training mode it measures its own statistics (update_bn).
        if not means or not calls or any(call["training"] for call in calls) or not _follows(trace, model):
            continue
        judged = True
        last = calls[-1]
        own, live = _last(trace, model, last["n"]), _last(trace, other, last["n"])
        fresh = [
            name
            for name, buffer in means.items()
            if is_zeros({**buffer, "digest": own.get(buffer["id"], buffer["digest"])})
            and name in theirs
            and not is_zeros({**theirs[name], "digest": live.get(theirs[name]["id"], theirs[name]["digest"])})
        ]
        if fresh and last["step"] >= 2:
            yield error(
                "average-statistics",
                trace.name(model),
                "averaged weights are used with the initial running statistics: nothing is normalized",
                cause="only parameters are averaged, and buffers are neither copied nor measured anew",
                hint="copy the buffers with the parameters, or call torch.optim.swa_utils.update_bn before use",
                layers=len(fresh),
            )
    if not judged:
        raise Vacuous("no averaged model with running statistics was called in evaluation mode")


CHECKS: tuple[Check, ...] = (
    Check(
        "average-statistics",
        "Averaged weights have running statistics of their own.",
        "state",
        statistics_follow,
        cut=True,
        proves="No copy whose weights follow the model was called in evaluation mode with initial running statistics, "
        "while the model had measured its own.",
        faults=("EMA copies parameters and no buffers", "update_bn forgotten after weight averaging"),
        limits="Copies that are models of their own; weights swapped into the model use the model's statistics.",
    ),
)
