"""Training runs in training mode; validation in evaluation mode, without graphs, and without touching the weights."""

import itertools
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_brainbrr.checks import unlooped
from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.held_out import by_hand, fed_by, held_out, validation
from pytest_brainbrr.checks.iterations import Event, calls, error, finite_number, stepping, turns, warning
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def _acts(module: Event) -> bool:
    """Return whether a module computes something else in training mode: it drops, or keeps statistics."""
    kind, options = module["class"], module["attributes"]
    if "Drop" in kind or kind in {"MultiheadAttention", "LSTM", "GRU", "RNN"}:
        shares = [options.get(name) for name in ("p", "drop_prob", "dropout", "drop_rate")]
        return any(isinstance(share, float) and share > 0 for share in shares)
    return normalizes(module) or kind == "RReLU"


def normalizes(module: Event) -> bool:
    """Return whether a module normalizes with running statistics."""
    return "BatchNorm" in module["class"] and module["attributes"].get("track_running_stats") is not False


def _acting(trace: Trace, model: str | None) -> list[Event]:
    """Return the modules of a root that compute something else in training mode."""
    return [module for module in trace.models.get(model or "", {}).get("modules", []) if _acts(module)]


def training_mode(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Every step rests on calls in training mode, before and after validation."""
    trace = traces["straight"]
    history = _history(trace)
    if not history:
        raise Vacuous("no step after a model call of its own was seen")
    for model, rounds in history.items():
        label, modes = trace.name(model), [any(call["training"] for call in own) for own in rounds]
        acting = _acting(trace, model)
        kinds = sorted({module["class"] for module in acting})
        if True in modes and False in modes and (modes.index(False) > modes.index(True) or acting):
            yield _flipped(label, modes, kinds, after=modes.index(False) > modes.index(True))
            continue
        if True not in modes:
            idle = _idle(trace, model, rounds[0][0])
            if idle:
                yield error(
                    "training-mode",
                    label,
                    "every step was trained in evaluation mode: dropout and normalization statistics never act",
                    cause="model.train() is never called, or eval() is called before training",
                    hint="call model.train() before the loop",
                    modules=idle,
                )
            continue
        flipped = _left_behind(trace, rounds)
        if flipped:
            yield error(
                "training-mode",
                f"{label}: {flipped[0]}",
                "modules of the model stayed in evaluation mode after a validation",
                cause="train() is called on a part of what eval() was called on",
                hint="call train() on the whole model after validation",
                modules=flipped[:8],
            )


def _flipped(label: str, modes: list[bool], kinds: list[str], *, after: bool) -> Finding:
    return error(
        "training-mode",
        label,
        "the model was trained in evaluation mode after a validation"
        if after
        else "the first steps were trained in evaluation mode",
        cause="model.train() is missing after model.eval()"
        if after
        else "model.train() is called after the first validation only",
        hint="call model.train() at the beginning of every epoch, or right after validation",
        steps_in_eval=modes.count(False),
        of=len(modes),
        modules=kinds,
    )


def _history(trace: Trace) -> dict[str, list[list[Event]]]:
    """Return root id -> its calls behind each step of an optimizer that holds it, in order."""
    by_call = calls(trace)
    history: dict[str, list[list[Event]]] = {}
    for found in stepping(trace).values():
        for turn in found:
            fed = [by_call[number] for number in sorted(turn.forwards) if number in by_call]
            for model in {call["model"] for call in fed if call["model"] is not None}:
                if _owns(trace, model, turn.parameters):
                    history.setdefault(model, []).append([call for call in fed if call["model"] == model])
    return {model: sorted(rounds, key=lambda calls_: int(calls_[0]["n"])) for model, rounds in history.items()}


def _owns(trace: Trace, model: str, stepped: Mapping[str, Any]) -> bool:
    return any(fact["id"] in stepped for fact in trace.models.get(model, {}).get("parameters", []))


def _idle(trace: Trace, model: str, call: Event) -> list[str]:
    """Return classes of modules that never act although nothing says that they are meant to rest.

    Frozen parts rest in evaluation mode on purpose, and so does normalization whose statistics were loaded.
    """
    facts = trace.models[model]
    frozen = [fact["name"] for fact in facts["parameters"] if not fact["requires_grad"]]
    buffers = {buffer["name"]: buffer for buffer in facts["buffers"]}
    idle = set()
    for module in _acting(trace, model):
        if module["path"] in call["mixed_modes"] or frozen:
            continue
        mean = buffers.get(f"{module['path']}.running_mean" if module["path"] else "running_mean")
        if not normalizes(module) or (mean is not None and is_zeros(mean)):
            idle.add(module["class"])
    return sorted(idle)


def is_zeros(buffer: Event) -> bool:
    """Return whether a float32 buffer holds zeros only."""
    size = 4
    for length in buffer["shape"]:
        size *= length
    return bool(buffer["digest"] == f"{zlib.crc32(bytes(size)):08x}")


def _left_behind(trace: Trace, rounds: list[list[Event]]) -> list[str]:
    """Return paths that were in training mode in one step and not in the next, with a validation in between."""
    thawed = {fact["name"] for fact in trace.parameters.values() if fact["requires_grad"]}
    seen: set[str] = set(rounds[0][-1]["mixed_modes"])
    for before, after in itertools.pairwise(rounds):
        now = set(after[-1]["mixed_modes"])
        validated = any(before[-1]["n"] < call["n"] < after[0]["n"] for call in held_out(trace))
        fresh = {
            path
            for path in now - seen
            if any(name.rpartition("/")[2].startswith(f"{path}.") for name in thawed) or "rop" in path
        }
        if validated and fresh and after[-1]["training"]:
            return sorted(fresh)
        seen |= now
    return []


def evaluation_mode(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Validation runs with dropout off and statistics at rest."""
    trace = traces["straight"]
    told: set[str] = set()
    found = [] if held_out(trace) or by_hand(trace) else list(unlooped.scored_in_training_mode(trace, _acting))
    if found:
        yield from found
        return
    for call in validation(trace):
        # Averaged models are called in training mode to renew their statistics (torch.optim.swa_utils.update_bn).
        if call["model"] in told or (call["training"] and call["class"] == "AveragedModel"):
            continue
        acting = [module for module in _acting(trace, call["model"]) if _awake(call, module)]
        # Dropout alone may be left on inside of an evaluated model on purpose (Monte-Carlo dropout).
        if not call["training"]:
            acting = [module for module in acting if normalizes(module)]
        if acting:
            told.add(call["model"])
            yield error(
                "evaluation-mode",
                trace.name(call["model"]),
                "validation ran in training mode: dropout drops, and the statistics of normalization move with "
                "held-out data",
                cause="model.eval() is missing before validation",
                hint="call model.eval() before and model.train() after validation",
                modules=sorted({module["class"] for module in acting}),
                first=acting[0]["path"],
            )


def _awake(call: Event, module: Event) -> bool:
    path = module["path"]
    if call["path"]:
        if path != call["path"] and not path.startswith(call["path"] + "."):
            return False
        path = path[len(call["path"]) :].lstrip(".")
    mixed = set(call["mixed_modes"])
    return bool(call["training"]) != (path in mixed)


def without_graphs(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Validation builds no graph that nobody uses."""
    trace = traces["straight"]
    told: set[str] = set()
    found = [] if held_out(trace) or by_hand(trace) else list(unlooped.graphs_unused(trace))
    if found:
        yield from found
        return
    for call in validation(trace):
        graphs = [fact for fact in call["outputs"] if fact["grad_fn"]]
        if call["grad_enabled"] and graphs and call["model"] not in told:
            told.add(call["model"])
            yield error(
                "validation-without-graphs",
                trace.name(call["model"]),
                "validation recorded gradients that nothing used: memory grows with every batch whose result is kept",
                cause="torch.no_grad() or torch.inference_mode() is missing around validation",
                hint="validate under torch.inference_mode()",
            )


def validation_is_passive(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """No optimizer step is taken on held-out batches."""
    trace = traces["straight"]
    fed, out = fed_by(trace), held_out(trace)
    quiet = [call for call in out if not call["grad_enabled"]]
    if not quiet:
        raise Vacuous(trace.lost("modules", "loaders") or "no validation without gradients was seen")
    passes = {call["loader"][0] for call in quiet}
    trained = {number for found in turns(trace).values() for turn in found for number in turn.forwards}
    wrong = [call for call in out if call["call"] in trained and call["loader"][0] in passes]
    if not wrong:
        ours = {call["call"] for call in out}
        for first, second in itertools.pairwise(quiet):
            if first["loader"][0] != second["loader"][0]:
                continue
            between = trace.between(first, second, "step", "forward")
            others = [
                event
                for event in between
                if event["kind"] == "forward" and event["call"] in fed and event["call"] not in ours
            ]
            if any(event["kind"] == "step" for event in between) and not others:
                wrong.append(second)
    if wrong:
        yield error(
            "validation-is-passive",
            trace.name(wrong[0]["model"]),
            "optimizer steps were taken on held-out batches, in the middle of validation",
            cause="validation shares the function of the training step, or calls backward and step itself",
            hint="keep backward, step and schedule out of validation",
            calls=len(wrong),
        )


def statistics_move(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Running statistics of normalization layers follow the data they were trained on."""
    trace = traces["straight"]
    # They may be set back to zero later on purpose, to be estimated afresh.
    borders: dict[str, set[Any]] = {}
    for event in trace.events("weights"):
        for identity, digest in event["buffers"].items():
            borders.setdefault(identity, set()).add(digest)
    by_call = calls(trace)
    judged, still = False, []
    for model, facts in trace.models.items():
        buffers = {buffer["name"]: buffer for buffer in facts["buffers"]}
        own = [call for call in trace.train_calls if call["model"] == model and call["training"]]
        if len({call["step"] for call in own}) < 2:
            continue
        ran = {fact["path"] for call in by_call.values() if call["model"] == model for fact in call.get("inner") or []}
        for module in facts["modules"]:
            name = f"{module['path']}.running_mean" if module["path"] else "running_mean"
            buffer = buffers.get(name)
            if (
                not normalizes(module)
                or buffer is None
                or module["path"] not in ran
                or any(not _awake(call, module) for call in own)
            ):
                continue
            judged = True
            seen = borders.get(buffer["id"], set())
            if seen and all(is_zeros({**buffer, "digest": digest}) for digest in seen):
                still.append(
                    (trace.name(buffer["id"]).removesuffix(".running_mean"), module["attributes"].get("momentum"))
                )
    hasty = list(_norms_options(trace))
    yield from hasty
    if not judged and not hasty:
        raise Vacuous("no normalization layer with running statistics was trained in training mode")
    if still:
        yield error(
            "statistics-move",
            min(still)[0],
            "running statistics stayed at their initial values through training: in evaluation mode nothing is "
            "normalized",
            cause="momentum is 0"
            if any(momentum == 0 for _, momentum in still)
            else "the layer computes in training mode without updating its buffers",
            hint="leave momentum at 0.1, and call layers with their own buffers",
            layers=len(still),
        )


def _norms_options(trace: Trace) -> Iterator[Finding]:
    """Warn of running statistics that are those of the last batch."""
    trained = {call["model"] for call in trace.train_calls if call["training"]}
    for model in sorted(trained & trace.models.keys(), key=trace.name):
        hasty = [
            module
            for module in trace.models[model]["modules"]
            if normalizes(module) and finite_number(module["attributes"].get("momentum"))
        ]
        hasty = [module for module in hasty if module["attributes"]["momentum"] >= 0.9]
        if hasty:
            yield warning(
                "statistics-move",
                trace.name(model),
                "running statistics are nearly those of the last batch alone",
                cause="torch's momentum is the weight of the new batch: 0.99 of other frameworks is 0.01 here",
                hint="leave momentum at 0.1",
                momentum=hasty[0]["attributes"]["momentum"],
                layers=len(hasty),
            )


CHECKS: tuple[Check, ...] = (
    Check(
        "training-mode",
        "Steps rest on calls in training mode.",
        "modes",
        training_mode,
        cut=True,
        proves="Every step used at least one call of its model in training mode, and no module was left in "
        "evaluation mode by a validation.",
        faults=("eval() without train() afterwards", "train() never called", "train() on a part of the model"),
        limits="A model that is always in evaluation mode fails only if it has dropout or fresh statistics, and no "
        "frozen part.",
    ),
    Check(
        "evaluation-mode",
        "Validation runs in evaluation mode.",
        "modes",
        evaluation_mode,
        cut=True,
        proves="Calls fed by held-out loaders ran with dropout and running statistics at rest.",
        faults=("eval() forgotten", "train() called inside validation"),
        limits="Validation is known by its loader, else by equal inputs scored at several steps; on other inputs that "
        "are scored it warns. Passes without gradients over samples that are trained on renew statistics. Models whose "
        "modules do not depend on the mode are not judged.",
    ),
    Check(
        "validation-is-passive",
        "No step is taken on held-out batches.",
        "modes",
        validation_is_passive,
        cut=True,
        proves="No backward of a step reached a call of validation, and no step fell between two batches of a "
        "validation.",
        faults=("the training step reused for validation", "optimizer.step() inside validation"),
        limits="Validation is known by its loader, else by equal inputs that are scored at several steps.",
    ),
    Check(
        "validation-without-graphs",
        "Validation builds no graph.",
        "modes",
        without_graphs,
        cut=True,
        proves="Outputs of validation have no history, unless a backward used it.",
        faults=("no_grad forgotten",),
        limits="Validation is known by its loader.",
    ),
    Check(
        "statistics-move",
        "Running statistics of normalization follow the data.",
        "modes",
        statistics_move,
        cut=True,
        proves="running_mean of every layer that ran in training mode left its initial value.",
        faults=("momentum=0", "momentum=0.99 as in other frameworks", "statistics reset or never updated"),
        limits="Frozen layers, and layers with loaded statistics, may rest and are not judged.",
    ),
)
