"""Interrupted and resumed equals uninterrupted; where it does not, the part that was not brought back is named."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.determinism import noisy
from pytest_brainbrr.checks.feeds import Feed, train_feeds
from pytest_brainbrr.checks.round_trip import below, moving
from pytest_brainbrr.results import Finding, Severity
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

Steps = dict[tuple[int, int], Mapping[str, Any]]
"""(place of the optimizer, its step of the uninterrupted run) -> step event."""

TRAINING = re.compile(r"optim|exp_avg|momentum_buffer|param_groups|sched|scaler|rng|generator", re.IGNORECASE)
VOLATILE = {"verbose", "_step_count", "_is_initial", "_last_lr"}
BY_CHANCE = {"order of samples", "random generators", "trained weights"}
COUNTER = re.compile(r"step|epoch|iter|best|patience|wait|bad|count|seen|batch|position", re.IGNORECASE)
STEP_COUNTER = re.compile(r"(^|[/_.])(global_)?(step|iteration|iter|it|batch_idx|n_steps)s?$", re.IGNORECASE)
PASSING = re.compile(r"time|date|second|stamp|path|dir|host|version|uuid|hash|rng|random", re.IGNORECASE)


def judge_reads(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Follow ``run.resume_from``: it is opened, as it was written, before anything else is done to it."""
    resumed = traces["resumed"]
    path = resumed.process.get("resume_from")
    written = checkpoint_of(traces["stopped"], resumed)
    writes = [event for event in resumed.events("checkpoint_write", after=True) if _is(event["final"], path)]
    reads = [event for event in resumed.events("checkpoint_read", after=True) if _is(event["path"], path)]
    opens = [event for event in resumed.events("file_open", mode="read", after=True) if _is(event["path"], path)]
    first = min((event["n"] for event in [*reads, *opens]), default=None)
    if writes and (first is None or writes[0]["n"] < first):
        text = "the checkpoint is overwritten with a fresh state before it is read"
        cause = "saving at the start of training uses the path that is resumed from"
        hint = "load first; give the files of a new run names of their own"
        return [Finding("resume-reads", "run.resume_from", "error", text, {}, cause, hint)]
    if first is None:
        if target.resumable is not True:
            raise Vacuous("the target does not open run.resume_from, and is not declared resumable")
        if _somewhere(resumed, path):
            raise Vacuous("the checkpoint was opened out of sight")
        text = "the checkpoint to resume from is never opened: training silently begins anew"
        cause = "another path is looked for, does not exist, and that is taken for a first start"
        hint = "let a checkpoint that was asked for and is missing be an error"
        return [Finding("resume-reads", "run.resume_from", "error", text, {}, cause, hint)]
    if written is not None and _same(reads, path) and reads[0]["tensors"] and written["tensors"]:
        changed = [key for key, fact in reads[0]["tensors"].items() if written["tensors"].get(key, fact) != fact]
        if changed:
            text = "what is read from the checkpoint is not what was written to it"
            evidence = {"tensors": sorted(changed)[:4], "count": len(changed)}
            cause = "the file was replaced between saving and resuming"
            return [Finding("resume-reads", "run.resume_from", "error", text, evidence, cause, "do not write to it")]
    return []


def _is(path: Any, wanted: Any) -> bool:
    """Return whether a path is the wanted one, or lies below it."""
    return path is not None and wanted is not None and PurePath(str(path)).is_relative_to(str(wanted))


def _same(reads: list[dict[str, Any]], path: Any) -> bool:
    return bool(reads) and PurePath(str(reads[0]["path"])) == PurePath(str(path))


def _somewhere(resumed: Trace, path: Any) -> bool:
    """Return whether something with the checkpoint's tensors was loaded without its path being seen."""
    return any(
        event["path"] is None or PurePath(str(event["path"])).name == PurePath(str(path)).name
        for event in resumed.events("checkpoint_read", after=True)
    ) or bool(resumed.events("load_state_dict", after=True))


def checkpoint_of(stopped: Trace, resumed: Trace) -> dict[str, Any] | None:
    """Return the write of the checkpoint that a run resumed from; the files of a folder count as one."""
    name = PurePath(str(resumed.process.get("resume_from"))).name
    found = [event for event in stopped.checkpoints if PurePath(str(event["final"])).name == name]
    if found:
        return found[-1]
    parts = [event for event in stopped.checkpoints if name in PurePath(str(event["final"])).parts]
    if not parts:
        return None
    whole = {**parts[0], "final": name, "tensors": {}, "scalars": {}}
    for part in parts:
        file = PurePath(str(part["final"])).name
        for kind in ("tensors", "scalars"):
            whole[kind] |= {f"{file}/{key}": value for key, value in part[kind].items()}
    return whole


def _reads(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    try:
        return judge_reads(traces, target)
    except Vacuous:
        return ()


def judge_continues(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the resumed run with the uninterrupted one, step by step, and name the part that is missing."""
    straight, stopped, resumed = traces["straight"], traces["stopped"], traces["resumed"]
    written = _comparable(traces, target)
    if resumed.exit["how"] in {"raised", "killed", "timeout"} or resumed.exit["code"]:
        evidence = {"exception": resumed.exit["exception"], "message": str(resumed.exit["message"])[:200]}
        text, cause = "resuming from the trainer's own checkpoint fails", "what is loaded does not fit what was saved"
        return [_part("resume", "error", text, evidence, cause, "load strictly, and mend the first error")]
    before = sum(event["n"] < written["n"] for event in stopped.steps)
    done = _steps(stopped, {})
    whole = _steps(straight, {})
    if any(done[key].get("digest") != whole[key].get("digest") for key in done.keys() & whole.keys()):
        raise Vacuous("the stopped run already differs from the uninterrupted one, for instance by its planned length")
    taken = {place: sum(e["n"] < written["n"] for key, e in done.items() if key[0] == place) for place, _ in done}
    again = _steps(resumed, taken)
    shared = whole.keys() & again.keys()
    if not before or not shared:
        raise Vacuous("the resumed run took no step that the uninterrupted one took too")
    equal = all(whole[key].get("digest") == again[key].get("digest") for key in shared)
    parts = list(_parts(traces, target, written, taken, equal=equal))
    if not equal and not parts:
        if _drawn_anew(straight, resumed, max(taken.values(), default=0)):
            raise Vacuous(
                "the resumed run goes on in the middle of an epoch with the same samples, which loader workers "
                "augment by draws of their own"
            )
        first = min(key[1] for key in shared if whole[key].get("digest") != again[key].get("digest"))
        text = "a resumed run does not reach the weights of the uninterrupted one"
        cause = "state in plain attributes of the trainer, of a loss or of a data set is not saved"
        hint = "save all that a step depends on"
        parts.append(_part("trained weights", "error", text, {"first_step_that_differs": first}, cause, hint))
    if _lightning(written) and target.resumable is not True:
        # Lightning keeps neither generators nor the place in an epoch: that is its design, not this trainer's fault.
        parts = [part for part in parts if part.where not in BY_CHANCE]
        if not parts and not equal:
            raise Vacuous("Lightning's checkpoints hold no generators and no place in the epoch, so runs may differ")
    return parts


def _comparable(traces: Mapping[str, Trace], target: Target) -> dict[str, Any]:
    """Return the checkpoint that was resumed from.

    Raises:
        Vacuous: the two runs cannot be compared.
    """
    stopped, resumed = traces["stopped"], traces["resumed"]
    written = checkpoint_of(stopped, resumed)
    if written is None:
        raise Vacuous("the checkpoint that was resumed from was not seen being written")
    if not _claims(written, target):
        raise Vacuous("the checkpoint holds weights only: it is not meant to be resumed from")
    for reason in noisy(traces):
        raise Vacuous(reason)
    if list(_reads(traces, target)):
        raise Vacuous("the checkpoint was not read as it was written, which `resume-reads` reports")
    return written


def _claims(written: Mapping[str, Any], target: Target) -> bool:
    """Return whether a checkpoint is meant to be resumed from."""
    return target.resumable is True or any(TRAINING.search(path) for path in (*written["tensors"], *written["scalars"]))


def _steps(trace: Trace, taken: Mapping[int, int]) -> Steps:
    places = {event["id"]: place for place, event in enumerate(_first_seen(trace))}
    counts: dict[int, int] = {}
    found: Steps = {}
    for step in trace.steps:
        place = places.get(step["optimizer"], -1)
        counts[place] = counts.get(place, 0) + 1
        found[place, counts[place] + taken.get(place, 0)] = step
    return found


def _first_seen(trace: Trace) -> list[dict[str, Any]]:
    stepped = {step["optimizer"] for step in trace.steps}
    seen = {event["id"]: event for event in reversed(trace.events("optimizer")) if event["id"] in stepped}
    return sorted(seen.values(), key=lambda event: event["n"])


def _parts(
    traces: Mapping[str, Trace], target: Target, written: Mapping[str, Any], taken: Mapping[int, int], *, equal: bool
) -> Iterator[Finding]:
    straight, stopped, resumed = traces["straight"], traces["stopped"], traces["resumed"]
    begun = max(taken.values(), default=0)
    mild: Severity = "error" if target.resumable is True else "warning"
    if not equal:
        state = list(_state(stopped, traces.get("reload", resumed), written))
        yield from state
        yield from _order(straight, resumed, begun, mild)
        if not state:  # Generators may differ without harm: a lost part that explains the difference comes first.
            yield from _generators(straight, resumed, begun, mild)
    else:
        yield from _averages(straight, resumed, begun)
    yield from _counters(traces, written, begun, equal=equal)


def _state(stopped: Trace, resumed: Trace, written: Mapping[str, Any]) -> Iterator[Finding]:
    after = resumed.first("snapshot", when="resume")
    saved = stopped.snapshot_of(written)
    if after is None or saved is None:
        return
    moments = [saved, *(event for event in stopped.events("snapshot") if event["when"] in {"limit", "end"})]
    text = "of a resumed run is not what it was when the checkpoint was written"
    for part, where in (
        ("models", "model weights"),
        ("optimizers", "optimizer state"),
        ("schedulers", "schedule"),
        ("scalers", "gradient scaler"),
    ):
        if not any(_plain(moment[part]) == _plain(after[part]) for moment in moments):
            if part == "models" and not _weights_differ(stopped, resumed, moments, after):
                continue
            cause = f"the {where} is not saved, not loaded, or changed after loading"
            yield _part(
                where,
                "error",
                f"the {where} {text}",
                {},
                cause,
                f"save and load the {where}, after everything is built",
            )
    copies = [_digests(moment["copies"]) for moment in moments]
    if after["copies"] and any(copies) and not any(_digests(after["copies"]) == moment for moment in copies):
        yield _averages_finding()


def _weights_differ(
    stopped: Trace, resumed: Trace, moments: Iterable[Mapping[str, Any]], after: Mapping[str, Any]
) -> bool:
    """Return whether models differ by more than buffers that a call in train mode moved before training went on."""
    buffers, called = {fact["name"] for fact in stopped.buffers.values()}, moving(resumed)

    def kept(moment: Mapping[str, Any]) -> dict[str, Any]:
        return {
            f"{label}/{name}": value
            for label, names in moment["models"].items()
            for name, value in names.items()
            if name not in buffers or not below(name, called)
        }

    return kept(after) not in [kept(moment) for moment in moments]


def _plain(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {key: _plain(value) for key, value in part.items() if key not in VOLATILE}
    return [_plain(item) for item in part] if isinstance(part, list) else part


def _digests(copies: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    return sorted(sorted(str(digest) for digest in copy["parameters"].values()) for copy in copies)


def _averages(straight: Trace, resumed: Trace, begun: int) -> Iterator[Finding]:
    """Compare copies of the model after the same step."""
    for number in range(1, len(resumed.steps) + 1):
        one = [event for event in straight.events("copy") if event["step"] == begun + number]
        other = [event for event in resumed.events("copy") if event["step"] == number]
        if one and len(one) == len(other) and _digests(one) != _digests(other):
            yield _averages_finding()
            return
        if len(one) < len(other):
            # What was loaded may still be there beside the average: those that move with the model are compared.
            wanted, given = (_digests(copy for copy in side if copy["decay"] is not None) for side in (one, other))
            if wanted and given and all(copy not in _digests(other) for copy in wanted):
                yield _averages_finding()
                return


def _averages_finding() -> Finding:
    text = "the averaged copy of the weights is not what it is in the uninterrupted run"
    cause = "the average is not saved, or begins again from the loaded weights"
    return _part(
        "averaged weights", "error", text, {}, cause, "put the average's state into the checkpoint and load it"
    )


def _feeds(trace: Trace, step: int) -> list[Feed]:
    return [feed for feed in train_feeds(trace) if feed.call["step"] == step]


def _order(straight: Trace, resumed: Trace, begun: int, severity: Severity) -> Iterator[Finding]:
    wanted, given = _feeds(straight, begun), _feeds(resumed, 0)
    if not wanted or not given:
        return
    names = [[feed.batch["base_indices"] for feed in feeds if feed.batch is not None] for feeds in (wanted, given)]
    if not names[0] or None in names[0]:
        names = [[[fact["digest"] for fact in feed.labels] for feed in both if feed.labels] for both in (wanted, given)]
    if names[0] == names[1]:
        return
    first = [feed.batch["base_indices"] for feed in _feeds(straight, 0) if feed.batch is not None]
    text = "a resumed run goes on with other samples than the uninterrupted one"
    cause = "the sampler's order is drawn anew from a generator that was not put back"
    if names[1] == first:
        cause = "the place in the epoch is not saved: the epoch begins again"
    hint = "save the sampler's epoch, seed and position, and skip what was used up"
    yield _part("order of samples", severity, text, {"wanted": names[0][:1], "given": names[1][:1]}, cause, hint)


def _drawn_anew(straight: Trace, resumed: Trace, begun: int) -> bool:
    """Return whether the first batches hold the same samples in other bytes, drawn by workers amid an epoch.

    A worker's generator begins anew with every pass: no trainer can put it back to where it was within one.
    """
    wanted, given = ([feed.batch for feed in _feeds(*place)] for place in ((straight, begun), (resumed, 0)))
    workers = {event["id"]: event["workers"] for event in straight.events("loader")}
    return bool(wanted) and all(
        one is not None
        and other is not None
        and one["position"] > 0
        and (workers.get(one["loader"]) or 0) > 0
        and one["base_indices"] is not None
        and one["base_indices"] == other["base_indices"]
        and [part["digest"] for part in one["tensors"]] != [part["digest"] for part in other["tensors"]]
        for one, other in zip(wanted, given, strict=False)
    )


def _generators(straight: Trace, resumed: Trace, begun: int, severity: Severity) -> Iterator[Finding]:
    wanted, given = straight.events("rng", when="step"), resumed.events("rng", when="step")
    if len(wanted) <= begun or not given or begun < 1:
        return
    drawn = [name for name in ("torch", "numpy", "python", "cuda") if wanted[begun][name] != wanted[begun - 1][name]]
    lost = [name for name in drawn if wanted[begun][name] != given[0][name]]
    if lost:
        text = "random numbers of a resumed run are others than those of the uninterrupted one"
        cause = "generator states are not saved, or are put back before something else draws from them"
        hint = "save the states of all generators, and restore them last, right before training goes on"
        yield _part("random generators", severity, text, {"generators": lost}, cause, hint)


def _counters(traces: Mapping[str, Trace], written: Mapping[str, Any], begun: int, *, equal: bool) -> Iterator[Finding]:
    straight, resumed = traces["straight"], traces["resumed"]
    total, again = len(straight.steps), len(resumed.steps)
    counted = [key for key, value in written["scalars"].items() if STEP_COUNTER.search(key) and value == begun]
    hint = "save and restore every counter, and the best score with its patience"
    if straight.exit["how"] == resumed.exit["how"] == "returned" and again > total - begun and counted:
        text = "a resumed run takes more steps than were left"
        evidence: dict[str, Any] = {"left": total - begun, "taken": again}
        yield _part("counters", "error", text, evidence, "the saved step counter is not restored", hint)
        return
    if not equal:
        return
    noise = _scalars(traces["repeat"]) if "repeat" in traces else None
    wanted, given = _scalars(straight), _scalars(resumed)
    if _lightning(written):
        wanted = _without_framework(wanted, given)
    differ = [
        key
        for key in wanted.keys() & given.keys()
        if wanted[key] != given[key]
        and COUNTER.search(key[1])
        and not PASSING.search(key[1])
        and (noise is None or noise.get(key) == wanted[key])
    ]
    if differ and straight.exit["how"] == resumed.exit["how"]:
        text = "the last checkpoint of a resumed run counts otherwise than that of the uninterrupted run"
        evidence = {key[1]: [wanted[key], given[key]] for key in sorted(differ)[:4]}
        yield _part("counters", "error", text, evidence, "counters or the best score begin anew after resuming", hint)


def _scalars(trace: Trace) -> dict[tuple[str, str], Any]:
    """Return (file, key) -> value of the last checkpoint written under each name."""
    found: dict[tuple[str, str], Any] = {}
    for event in trace.checkpoints:
        name = PurePath(str(event["final"] or event["path"])).name
        found.update({(name, key): value for key, value in event["scalars"].items() if isinstance(value, int | float)})
    return found


def _without_framework(
    wanted: Mapping[tuple[str, str], Any], given: Mapping[tuple[str, str], Any]
) -> dict[tuple[str, str], Any]:
    """Leave out what Lightning counts on its own, and files kept at other steps.

    Its loops count differently after a checkpoint that was written before an epoch's end, and ModelCheckpoint forgets
    its best score where it is told another folder.
    """
    apart = {
        file for file, key in wanted if key == "global_step" and given.get((file, key)) != wanted[file, key]
    }  # fmt: skip
    return {
        (file, key): value
        for (file, key), value in wanted.items()
        if file not in apart and not key.startswith(("loops/", "callbacks/ModelCheckpoint"))
    }


def _lightning(written: Mapping[str, Any]) -> bool:
    return "pytorch-lightning_version" in written["scalars"]


def _part(where: str, severity: Severity, text: str, evidence: dict[str, Any], cause: str, hint: str) -> Finding:
    return Finding("resume-continues", where, severity, text, evidence, cause, hint)


CHECKS: tuple[Check, ...] = (
    Check(
        "resume-reads",
        "The checkpoint asked for is the one that is read",
        "resume",
        judge_reads,
        needs=("stopped", "resumed"),
        proves="run.resume_from is opened, unchanged, before anything is written to it.",
        faults=(
            "another path is looked for and its absence taken for a first start",
            "checkpoint overwritten by a fresh state",
        ),
        limits="Vacuous for targets that are not declared resumable and do not open it.",
    ),
    Check(
        "resume-continues",
        "Resumed equals uninterrupted",
        "resume",
        judge_continues,
        needs=("straight", "stopped", "resumed"),
        wants=("repeat", "reload"),
        proves=(
            "Weights after every step, averaged weights, and counters in the last checkpoint are those of the run "
            "that was never stopped."
        ),
        faults=(
            "optimizer, schedule, scaler or average not saved",
            "generators not saved, or restored too early",
            "place in the epoch forgotten",
            "step counter or best score forgotten",
            "model rebuilt after loading",
        ),
        limits=(
            "Weights-only checkpoints are not judged, nor runs that differ from their own repetition. Generators "
            "and order "
            "of samples only warn unless the target is declared resumable, and then are not asked of Lightning."
        ),
    ),
)
