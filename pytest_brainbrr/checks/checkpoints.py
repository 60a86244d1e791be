"""Checkpoints: of the present weights, complete, never half a file, the best one the best; and loading loads."""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import PurePosixPath
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import validation_feeds
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

INITIAL = re.compile(
    r"(^|[/._-])(init|initial|rewind|original|before|pretrained|anchor|theta_?0|w0)([/._-]|$|weights|state|params|model)",
    re.IGNORECASE,
)
"""Names under which the weights from before training are kept on purpose."""
BEST = re.compile(r"best", re.IGNORECASE)
PART = re.compile(r"(?:^|(?<=\.))parametrizations\.(\w+)\.original\d*$|(?<=\w)_(?:orig|g|v)$")
"""How torch names what a weight is made of while it is pruned, normalized or parametrized."""
NOUGHT = frozenset(f"{zlib.crc32(bytes(size)):08x}" for size in (4, 8))
"""Digests of a counter at 0."""
LEAST, MOST = 0.3, 0.5
"""Share of a model's tensors that a checkpoint must name to be judged as holding that model."""
WRAPPERS = re.compile(r"^(module|_orig_mod|model|net|_forward_module)\.")


def held(checkpoint: Mapping[str, Any], names: Iterable[str]) -> dict[str, dict[str, dict[str, str]]]:
    """Return where a checkpoint keeps the tensors of a model: prefix -> name -> {key path, digest}.

    A key path belongs to a name if it ends in it: ``model/module.encoder.weight`` ends in ``encoder.weight``.
    """
    wanted = set(names)
    found: dict[str, dict[str, dict[str, str]]] = {}
    for path, fact in checkpoint["tensors"].items():
        for place in _ends(path):
            if path[place:] in wanted:
                entry = {"path": path, "digest": fact["digest"], "dtype": fact["dtype"]}
                found.setdefault(path[:place], {}).setdefault(path[place:], entry)
                break
    return found


def _ends(path: str) -> Iterator[int]:
    yield 0
    for place, letter in enumerate(path):
        if letter in "/.":
            yield place + 1


def judge_current(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the weights in each checkpoint with those of the model at that moment, and with the initial ones."""
    trace = traces["straight"]
    initial = _initial(trace)
    judged = 0
    found: dict[str, Finding] = {}
    for checkpoint in trace.checkpoints:
        snapshot = trace.snapshot_of(checkpoint)
        if snapshot is None or checkpoint["step"] == 0:
            continue
        for label, tensors in snapshot["models"].items():
            start = initial.get(label, {})
            moved = {name for name, digest in tensors.items() if digest != start.get(name) and name in start}
            sets = {
                prefix: kept
                for prefix, kept in held(checkpoint, tensors).items()
                if len(kept) > MOST * len(tensors)
                and not INITIAL.search(f"{_kind(checkpoint)}/{prefix}")
                and not _of_no_average(checkpoint, prefix)
            }
            if not moved or not sets:
                continue
            judged += 1
            stale = [kept for kept in sets.values() if _equals(kept, start, moved)]
            current = [kept for kept in sets.values() if _equals(kept, tensors, moved)]
            if stale and not current and not _validated_untrained(trace):
                text = "the checkpoint holds the weights from before training, not those of this moment"
                cause = (
                    "the state was captured once at the start, or belongs to another model object than the trained one"
                )
                evidence = {"tensors": len(moved), "step": checkpoint["step"]}
                where = f"checkpoint {_kind(checkpoint)}"
                hint = "call model.state_dict() at the moment of saving, on the model that trains"
                found.setdefault(where, Finding("checkpoint-current", where, "error", text, evidence, cause, hint))
    if not judged:
        raise Vacuous("the run wrote no checkpoint in which the model's tensors could be recognised after a step")
    yield from found.values()


def _of_no_average(checkpoint: Mapping[str, Any], prefix: str) -> bool:
    """Return whether tensors are those of an ``AveragedModel`` that says itself that it has averaged nothing yet."""
    count = checkpoint["tensors"].get(prefix.removesuffix("module.") + "n_averaged")
    return count is not None and count["digest"] in NOUGHT


def _initial(trace: Trace) -> dict[str, dict[str, str]]:
    """Return label -> name -> digest before the first step, of parameters only."""
    several = len([model for model in trace.models.values() if model.get("parameters")]) > 1
    found: dict[str, dict[str, str]] = {}
    for event in trace.events("weights", when="first_forward", step=0):
        model = trace.models.get(event["model"])
        if model is None:
            continue
        names = {fact["id"]: fact["name"] for fact in model["parameters"]}
        digests = {names[key]: digest for key, digest in event["parameters"].items() if key in names}
        for label in {model["label"], *([] if several else ["model"])}:
            found.setdefault(label, digests)
    return found


def _equals(kept: Mapping[str, Mapping[str, str]], tensors: Mapping[str, str], names: set[str]) -> bool:
    shared = names & kept.keys()
    return bool(shared) and all(kept[name]["digest"] == tensors.get(name) for name in shared)


def _validated_untrained(trace: Trace) -> bool:
    """Return whether a validation stood before the first step: its weights may have been the best."""
    return any(feed.call["step"] == 0 for feed in validation_feeds(trace))


def _kind(checkpoint: Mapping[str, Any]) -> str:
    """Return the checkpoint's name without numbers, so that it is stable."""
    return re.sub(r"\d+", "N", PurePosixPath(str(checkpoint.get("final") or checkpoint["path"])).name)


def judge_complete(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the tensors a checkpoint holds of a model with those it would need."""
    trace = traces["straight"]
    judged = 0
    found: dict[tuple[str, str], Finding] = {}
    for checkpoint in trace.checkpoints:
        if checkpoint.get("truncated"):
            continue
        snapshot = trace.snapshot_of(checkpoint)
        for label, tensors in (snapshot or {"models": {}})["models"].items():
            parameters, trainable, buffers = _members(trace, label)
            for own in held(checkpoint, tensors).values():
                kept = own.keys() | _shards(trace, checkpoint, tensors, own.keys())
                saved = parameters & kept
                if len(saved) <= MOST * max(1, len(parameters)):
                    continue
                judged += 1
                for finding in _missing(tensors, kept, saved, trainable, buffers, _kind(checkpoint)):
                    found.setdefault((finding.where, finding.message), finding)
    yield from _lost(trace)
    if not judged and not any(
        held(checkpoint, _trained(trace, label)) for checkpoint in trace.checkpoints for label in trace.models
    ):
        raise Vacuous("the run wrote no checkpoint in which parameters of the model could be recognised")
    yield from found.values()


def _shards(trace: Trace, checkpoint: Mapping[str, Any], tensors: Iterable[str], own: AbstractSet[str]) -> set[str]:
    """Return what files written beside this one at the same step hold of the model, if they share nothing with it."""
    folder, found = PurePosixPath(str(checkpoint["final"])).parent, set[str]()
    for other in trace.checkpoints:
        if other is checkpoint or other["step"] != checkpoint["step"]:
            continue
        if PurePosixPath(str(other["final"])).parent == folder:
            names = {name for part in held(other, tensors).values() for name in part}
            if names.isdisjoint(own):
                found |= names
    return found


def _trained(trace: Trace, model: str) -> dict[str, int]:
    """Return name -> elements of the parameters of a root that were moved by a step."""
    facts = {fact["id"]: fact for fact in trace.models[model]["parameters"]}
    moved = {part["id"] for step in trace.steps for part in step["parameters"] if part.get("moved")}
    return {facts[key]["name"]: facts[key]["elements"] for key in moved & facts.keys()}


def of_parts(name: str) -> str:
    """Return the name of the tensor that a parameter is a part of: it is saved once pruning is made permanent."""
    return PART.sub(lambda match: match[1] or "", name)


def _lost(trace: Trace) -> Iterator[Finding]:
    """Look for roots of which all checkpoints together hold only a small part of what was trained."""
    if any(checkpoint.get("truncated") for checkpoint in trace.checkpoints):
        return
    for model in trace.models:
        trained = _trained(trace, model)
        made = {of_parts(name): name for name in trained}
        kept = {
            made.get(name, name)
            for write in trace.checkpoints
            for part in held(write, {*trained, *made}).values()
            for name in part
        }
        share = sum(trained[name] for name in kept) / max(1, sum(trained.values()))
        if kept and share < LEAST:
            text = "all checkpoints together hold only a small part of the parameters that were trained"
            cause = "the saved names are filtered by a pattern that is too narrow"
            evidence = {"held": sorted(kept)[:4], "share": round(share, 3)}
            hint = "save model.state_dict(), which holds parameters and buffers"
            yield Finding("checkpoint-complete", "all checkpoints", "error", text, evidence, cause, hint)


def _members(trace: Trace, label: str) -> tuple[set[str], set[str], set[str]]:
    """Return the names of the parameters, of the trainable ones and of the buffers that ought to be saved."""
    for model in trace.models.values():
        if model["label"] == label or len(trace.models) == 1:
            parameters = {fact["name"] for fact in model["parameters"]}
            trainable = {
                trace.parameters[key]["name"]
                for key in trace.trainable
                if trace.parameters[key]["model"] == model["id"]
            }
            trainable = {name.removeprefix(f"{model['label']}/") for name in trainable}
            buffers = {fact["name"] for fact in model["buffers"] if fact.get("persistent", True)}
            return parameters, trainable, buffers
    return set(), set(), set()


def _missing(
    tensors: Mapping[str, str], kept: Iterable[str], saved: set[str], trainable: set[str], buffers: set[str], kind: str
) -> Iterator[Finding]:
    kept = set(kept)
    lost = (buffers & tensors.keys()) - kept
    hint = "save model.state_dict(), which holds parameters and buffers"
    if buffers and lost == buffers & tensors.keys() and trainable <= saved:
        text = "the checkpoint holds the model's parameters, but none of its buffers"
        cause = "named_parameters() is saved instead of state_dict(): running statistics are lost"
        yield Finding(
            "checkpoint-complete", f"checkpoint {kind}: buffers", "error", text, {"buffers": len(lost)}, cause, hint
        )
    absent = {name for name in trainable & tensors.keys() if name not in saved}
    halves = {name for name in absent if any(_module(other) == _module(name) for other in saved)}
    if halves:
        text = "the checkpoint holds some parameters of a layer and leaves others out"
        cause = "the saved names are filtered"
        evidence = {"parameters": sorted(halves)[:4], "count": len(halves)}
        yield Finding("checkpoint-complete", f"checkpoint {kind}: parameters", "error", text, evidence, cause, hint)


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def judge_atomic(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for a checkpoint that is overwritten in place while no other one exists."""
    trace = traces["straight"]
    written = [event for event in trace.checkpoints if event["atomic"] is not None]
    if not written:
        raise Vacuous("the run wrote no checkpoint")
    bare = [event for event in written if event["atomic"] is False] if target.atomic else []
    for event in bare[:1]:
        text = "a checkpoint is written under its final name, though the target is declared to write it elsewhere first"
        cause = "the file is opened where it will be read: a crash leaves half of it, which is then the newest"
        hint = "write to a temporary name in the same folder, then os.replace it"
        where = f"checkpoint {_kind(event)}"
        yield Finding("checkpoint-atomic", where, "error", text, {"writer": event["writer"]}, cause, hint)
    if bare:
        return
    if not _relied_on(traces.get("resumed")):
        raise Vacuous("no run was seen that resumes from a checkpoint")
    risky = [event for event in written if event["overwrote"] and event["atomic"] is False and _resumable(event)]
    for event in risky:
        before = {other["final"] for other in written if other["n"] < event["n"] and _resumable(other)}
        others = {name for name in before - {event["final"]} if not BEST.search(str(name))}
        if others:
            continue
        text = "the only checkpoint is overwritten in place: a crash while writing loses it"
        cause = "the file is written under its final name"
        hint = "write to a temporary name in the same folder, then os.replace it"
        yield Finding(
            "checkpoint-atomic", f"checkpoint {_kind(event)}", "warning", text, {"writer": event["writer"]}, cause, hint
        )
        return


def _relied_on(resumed: Trace | None) -> bool:
    """Return whether the trainer reads back what it is told to resume from: then a crash while writing matters."""
    wanted = resumed.process.get("resume_from") if resumed is not None else None
    if resumed is None or wanted is None:
        return False
    reads = [*resumed.events("checkpoint_read", after=True), *resumed.events("file_open", mode="read", after=True)]
    return any(PurePosixPath(str(event["path"])).is_relative_to(str(wanted)) for event in reads if event["path"])


def _resumable(event: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint holds more than weights: optimizer moments, generators, counters of several kinds."""
    paths = [*event["tensors"], *event["scalars"]]
    return any(re.search(r"optim|exp_avg|momentum_buffer|param_groups", path) for path in paths)


def judge_loads(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look at every load_state_dict: keys that match nothing load nothing."""
    events = [
        (plan, event)
        for plan, trace in sorted(traces.items(), key=lambda item: item[0] != "straight")
        for event in trace.events("load_state_dict", after=True)
        if event.get("loaded") is not None and event["keys"]
    ]
    if not events:
        raise Vacuous("no module loaded a state in any run")
    for plan, event in events:
        missing, unexpected = event["missing"] or [], event["unexpected"] or []
        if event["raised"] or not missing or not unexpected:
            continue
        several = min(len(unexpected), event["keys"])
        prefixed = _common_prefix(missing, unexpected)
        if several * 2 < min(event["keys"], 64) or (event["loaded"] > 0 and prefixed is None):
            continue
        text = "load_state_dict was given weights whose names match nothing, and loaded none of them"
        cause = "strict=False hides that the names differ"
        if prefixed:
            cause += f" by the prefix {prefixed!r}"
        evidence = {"keys": event["keys"], "missing": len(missing), "unexpected": len(unexpected)}
        hint = "strip or add the prefix before loading, and keep strict=True"
        where = "resume" if plan != "straight" else "start of training"
        yield Finding("load-takes-effect", where, "error", text, evidence, cause, hint)
        return


def _common_prefix(missing: Iterable[str], unexpected: Iterable[str]) -> str | None:
    """Return the prefix that most names differ by."""
    wanted, given = list(missing), list(unexpected)
    for shorter, longer in ((wanted, given), (given, wanted)):
        for name in longer[:1]:
            for other in shorter:
                if name != other and name.endswith(f".{other}"):
                    prefix = name[: -len(other)]
                    if sum(f"{prefix}{one}" in longer for one in shorter) * 2 >= len(shorter):
                        return prefix
    return None


CHECKS: tuple[Check, ...] = (
    Check(
        "checkpoint-current",
        "Checkpoints hold the weights of their moment",
        "checkpoint",
        judge_current,
        cut=True,
        proves=(
            "No checkpoint written after a step holds the weights from before the first step in the place of the "
            "present ones."
        ),
        faults=("state captured once at the start", "state of another model object saved"),
        limits=(
            "Checkpoints that keep earlier, best weights are recognised and left alone, and so are weights whose name "
            "says that they are the initial ones."
        ),
    ),
    Check(
        "checkpoint-complete",
        "Checkpoints hold the whole model",
        "checkpoint",
        judge_complete,
        cut=True,
        proves=(
            "A checkpoint with a model's parameters holds its persistent buffers, and all trainable parameters of "
            "each layer."
        ),
        faults=("only parameters saved", "names filtered"),
        limits="Whole parts left out (a head, a frozen backbone) may be meant.",
    ),
    Check(
        "load-takes-effect",
        "Loading a state loads it",
        "checkpoint",
        judge_loads,
        wants=("resumed",),
        cut=True,
        proves="No load_state_dict call is given names that match none of the module's.",
        faults=("prefix of a wrapper and strict=False",),
        limits="Weights copied by hand are not seen.",
    ),
    Check(
        "checkpoint-atomic",
        "The last checkpoint survives a crash while writing",
        "checkpoint",
        judge_atomic,
        wants=("resumed",),
        cut=True,
        proves="The only checkpoint to resume from is not overwritten under its final name.",
        faults=("checkpoint written in place",),
        limits=(
            "A warning. Checkpoints of weights alone are not judged, nor those of trainers that were not seen to "
            "resume from one."
        ),
    ),
)
