"""Validation that no loader feeds: known by what happens to the outputs of calls, so it only warns."""

from collections.abc import Callable, Iterator

from pytest_brainbrr.checks.iterations import Event, warning
from pytest_brainbrr.results import Finding
from pytest_brainbrr.trace import Trace


def _trained(trace: Trace) -> set[str]:
    """Return the roots that are optimized and have been trained in training mode."""
    held = {fact["model"] for identity, fact in trace.parameters.items() if identity in trace.optimized}
    return held & {call["model"] for call in trace.train_calls if call["training"]}


def _scored(trace: Trace, call: Event, since: int) -> bool:
    """Return whether a loss was computed from the outputs of a call, inside of it or afterwards."""
    return any(
        loss["input_from"] == call["call"] or (loss["inside"] is not None and since < loss["n"] < call["n"])
        for loss in trace.events("loss", grad_enabled=call["grad_enabled"])
    )


def scored_in_training_mode(trace: Trace, acting: Callable[[Trace, str | None], list[Event]]) -> Iterator[Finding]:
    """Warn where a trained model is scored again and again without gradients, and never in evaluation mode."""
    for model in sorted(_trained(trace), key=trace.name):
        since, scored = -1, []
        known = {fact["digest"] for call in trace.train_calls for fact in call["inputs"] if fact.get("digest")}
        for call in trace.events("forward"):
            quiet = call["model"] == model and not call["grad_enabled"] and not call["raised"]
            # A second look at the batch that trains (line search, difference of losses) is no validation.
            quiet = quiet and known.isdisjoint(fact.get("digest") for fact in call["inputs"])
            if quiet and _scored(trace, call, since):
                scored.append(call)
            since = call["n"]
        steps = {call["step"] for call in scored}
        if len(steps) >= 2 and all(call["training"] for call in scored) and acting(trace, model):
            yield warning(
                "evaluation-mode",
                trace.name(model),
                "losses are measured without gradients, and always in training mode: dropout drops, and the "
                "statistics of normalization move",
                cause="model.eval() is missing before validation",
                hint="call model.eval() before and model.train() after validation",
                modules=sorted({module["class"] for module in acting(trace, model)}),
            )


def graphs_unused(trace: Trace) -> Iterator[Finding]:
    """Warn where a trained model is scored in evaluation mode with graphs that no backward uses."""
    for model in sorted(_trained(trace), key=trace.name):
        since, scored = -1, []
        for call in trace.events("forward"):
            idle = call["model"] == model and call.get("phase") == "eval" and call["grad_enabled"]
            graphs = any(fact["grad_fn"] for fact in call["outputs"])
            if idle and graphs and not call["training"] and not call["raised"] and _scored(trace, call, since):
                scored.append(call)
            since = call["n"]
        if len({call["step"] for call in scored}) >= 2:
            yield warning(
                "validation-without-graphs",
                trace.name(model),
                "losses are measured in evaluation mode with gradients recorded, which nothing used",
                cause="torch.no_grad() or torch.inference_mode() is missing around validation",
                hint="validate under torch.inference_mode()",
                calls=len(scored),
            )
