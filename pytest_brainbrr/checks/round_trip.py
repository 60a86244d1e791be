"""The checkpoint brings back what was saved: weights, buffers, optimizer, schedule, and the same outputs."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

# The last computed rates are a report: the next step computes them anew from the counters, or finds them in the groups.
VOLATILE = frozenset({"verbose", "_step_count", "_is_initial", "_last_lr"})
COUNTERS = ("step", "epoch", "iter", "optim", "sched")


def judge_round_trip(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Compare what stood when the checkpoint was written with what a fresh process holds after resuming."""
    stopped, reload = traces["stopped"], traces["reload"]
    lost = stopped.lost("snapshots", "checkpoints", "models") or reload.lost("snapshots", "checkpoints", "models")
    if lost:
        raise Vacuous(lost)
    if reload.exit["how"] in {"raised", "killed", "timeout"} or (
        reload.exit["how"] == "system_exit" and reload.exit["code"]
    ):
        yield _finding(
            "resume",
            "resuming from the trainer's own checkpoint fails",
            {"exception": reload.exit["exception"], "message": reload.exit["message"][:300]},
            "the keys in the file are not those of the objects they are loaded into, or something in the file "
            "cannot be read back",
            "load the file with the trainer's own code in a fresh process and mend the first error",
        )
        return
    after = reload.first("snapshot", when="resume")
    written = _checkpoint(stopped, reload)
    before = stopped.snapshot_of(written) if written is not None else None
    if after is None or before is None or written is None:
        raise Vacuous("the resumed process never came to a training forward, so what it loaded was not seen")
    stood = [before, *stopped.events("snapshot", when="limit"), *stopped.events("snapshot", when="end")]
    weights = list(_weights(stood, after, stopped, moving(reload)))
    yield from weights
    yield from _training_state(stood, after, written, resumable=target.resumable is True)
    if not weights:
        yield from _outputs(stopped, reload)


def _checkpoint(stopped: Trace, reload: Trace) -> dict[str, Any] | None:
    name = PurePath(str(reload.process.get("resume_from"))).name
    # What is resumed from may be a folder of several files.
    found = [event for event in stopped.checkpoints if name in PurePath(str(event["final"])).parts]
    return found[-1] if found else None


def moving(resumed: Trace) -> tuple[str, ...]:
    """Return paths of modules called in train mode before the first training step: their buffers may have moved."""
    return tuple(call["path"] for call in resumed.events("forward") if call["training"] and call["path"] is not None)


def below(name: str, paths: tuple[str, ...]) -> bool:
    """Return whether a tensor belongs to a module at one of the paths.

    >>> below("teacher.norm.running_mean", ("teacher",)), below("head.weight", ("teacher",))
    (True, False)
    """
    return any(not path or name.startswith(f"{path}.") for path in paths)


def _weights(
    stood: list[dict[str, Any]], after: Mapping[str, Any], stopped: Trace, called: tuple[str, ...]
) -> Iterator[Finding]:
    buffers = {fact["name"] for fact in stopped.buffers.values()}
    for label, names in stood[0]["models"].items():
        loaded = after["models"].get(label)
        if loaded is None:
            continue
        wrong = [
            name
            for name, value in names.items()
            if name in loaded
            and all(loaded[name] != moment["models"].get(label, {}).get(name, value) for moment in stood)
        ]
        for kind, members in (
            ("weights", [name for name in wrong if name not in buffers]),
            ("buffers", [name for name in wrong if name in buffers and not below(name, called)]),
        ):
            if members:
                yield _finding(
                    f"{label}: {kind}",
                    f"{kind} of a resumed process differ from those that were saved",
                    {"differ": members[:8], "count": len(members), "of": len(names)},
                    "keys that do not match under strict=False (`module.`, `_orig_mod.`), or only parameters() "
                    "were saved"
                    if kind == "weights"
                    else "only parameters were saved: state_dict() holds the buffers too",
                    "save and load state_dict() of the unwrapped model, strictly",
                )


def _training_state(
    stood: list[dict[str, Any]], after: Mapping[str, Any], written: Mapping[str, Any], *, resumable: bool
) -> Iterator[Finding]:
    keys = [key.lower() for key in (*written["tensors"], *written["scalars"])]
    # A file of nothing but weights may be meant so; one that counts steps is there to be resumed from.
    meant = resumable or any(word in part for key in keys for part in key.split("/")[:1] for word in COUNTERS)
    severity = "error" if meant else "warning"
    for part, where in (("optimizers", "optimizer state"), ("schedulers", "schedule"), ("scalers", "gradient scaler")):
        for number, now in enumerate(after[part]):
            moments = [moment[part][number] for moment in stood if number < len(moment[part])]
            if not moments:
                continue
            wrong = min((sorted(_differences(_state(moment), _state(now))) for moment in moments), key=len)
            if wrong:
                name = now.get("class", "GradScaler")
                yield Finding(
                    "round-trip",
                    f"{where}: {name}",
                    severity,  # type: ignore[arg-type]
                    f"{where} of a resumed process differs from what stood when the checkpoint was written",
                    {"differ": wrong[:8], "count": len(wrong)},
                    cause=f"the {where} is not saved, or saved but never loaded",
                    hint=f"put its state_dict() into the checkpoint and load it before training goes on ({where})",
                )


def _state(part: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in part.items():
        if isinstance(value, Mapping):
            for inner, item in value.items():
                if isinstance(item, Mapping):
                    found.update({f"{inner}.{slot}": each for slot, each in item.items()})
                elif inner not in VOLATILE:
                    found[f"{inner}"] = item
        elif name != "class":
            found[name] = value
    return found


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if before.keys() != after.keys() and _slots(before) == _slots(after):
        return  # The same numbers under other names: a root was known by another part of it when they were taken.
    for name, value in before.items():
        if name not in after:
            yield f"{name} (gone)"
        elif after[name] != value:
            yield name


def _slots(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a state holds, by the last part of its names alone."""
    return sorted((name.rpartition(".")[2], str(value)) for name, value in state.items())


def _outputs(stopped: Trace, reload: Trace) -> Iterator[Finding]:
    one = stopped.first("probe", name="fixed_batch", after=True)
    two = reload.first("probe", name="fixed_batch", after=True)
    if one is None or two is None or not one["result"] or not two["result"]:
        return
    ends = [event for event in stopped.events("snapshot") if event["when"] in {"limit", "end"}]
    resumed = reload.first("snapshot", when="resume")
    if not ends or resumed is None or ends[-1]["models"] != resumed["models"]:
        return  # the stopped run had trained on after its checkpoint: its outputs are those of other weights
    first = [fact["digest"] for fact in one["result"]["outputs"]]
    second = [fact["digest"] for fact in two["result"]["outputs"]]
    if first != second:
        yield _finding(
            "outputs",
            "equal weights and buffers give other outputs on a fixed batch after resuming",
            {"saved": first[:4], "resumed": second[:4]},
            "the model holds state in plain attributes or non-persistent buffers that is not saved",
            "register such state as buffers, or save it with the checkpoint",
        )


def _finding(where: str, message: str, evidence: Mapping[str, Any], cause: str, hint: str) -> Finding:
    return Finding("round-trip", where, "error", message, evidence, cause=cause, hint=hint)


CHECKS: tuple[Check, ...] = (
    Check(
        id="round-trip",
        title="the trainer's own checkpoint, loaded by its own code in a fresh process, gives back the same state",
        group="checkpoint",
        judge=judge_round_trip,
        needs=("stopped", "reload"),
        proves="Weights, buffers, optimizer state, schedule and scaler are bitwise what they were when the file was "
        "written, and outputs on a fixed batch are equal.",
        faults=(
            "optimizer or schedule not saved, or not loaded",
            "strict=False with a key prefix",
            "only parameters() saved, buffers lost",
            "a file that cannot be loaded back",
        ),
        limits="Counters and best metrics in plain attributes are judged by the resume checks.",
    ),
)
