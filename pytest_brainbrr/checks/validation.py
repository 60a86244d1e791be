"""Validation: complete, of this round only, and without a trace in the training that follows."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import argument, feeds, limited, train_feeds, validation_feeds, validation_passes
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace


def judge_complete(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the samples of a validation pass with those of its data set."""
    trace = traces["straight"]
    loaders = {event["id"]: event for event in trace.events("loader")}
    sizes: Counter[str] = Counter()
    for feed in validation_feeds(trace):
        if feed.batch is not None:
            sizes[feed.batch["epoch"]] += feed.batch["size"]
    endings = {
        event["id"]: event for event in trace.events("epoch") if event["action"] != "begin" and event["id"] in sizes
    }
    nothing = _nothing(trace)
    yield from nothing
    if not endings:
        if nothing:
            return
        raise Vacuous("no validation pass over a watched loader came to its end")
    whole = [event for event in endings.values() if event["action"] == "end"]
    for event in whole:
        loader = loaders.get(event["loader"], {})
        wanted = loader.get("num_samples")
        if loader.get("drop_last") and wanted and sizes[event["id"]] < wanted:
            evidence = {"samples": wanted, "validated": sizes[event["id"]], "batch_size": loader["batch_size"]}
            text = "validation leaves out samples: the last, smaller batch is dropped"
            cause, hint = "drop_last is on in the validation loader", "set drop_last for training only"
            yield Finding("validation-complete", "validation loader", "error", text, evidence, cause, hint)
            return
    short = [event for event in endings.values() if event["action"] == "dropped" and event["batches"] == 1]
    if len(short) > 1 and len(short) == len(endings) and not limited(trace, "limit_val_batches"):
        batches = [loaders.get(event["loader"], {}).get("batches") or 0 for event in short]
        if min(batches) > 1:
            text = "every validation stops after its first batch"
            cause = "a return or break stands inside the loop over the batches"
            evidence = {"validations": len(short), "batches": min(batches)}
            yield Finding(
                "validation-complete", "validation loop", "warning", text, evidence, cause, "validate on all batches"
            )


def _nothing(trace: Trace) -> list[Finding]:
    """Return a finding if a loader that is not for training was iterated and dropped its only batch."""
    lengths = {event["id"]: event["length"] for event in trace.events("dataset")}
    loaders = {event["id"]: event for event in trace.events("loader")}
    training = {feed.batch["loader"] for feed in train_feeds(trace) if feed.batch is not None}
    for event in trace.events("epoch", action="end", batches=0):
        loader = loaders.get(event["loader"], {})
        samples = lengths.get(str(loader.get("dataset")))
        if training and event["loader"] not in training and samples and loader.get("drop_last"):
            text = "validation looks at nothing: its loader drops the only batch"
            cause = "drop_last is on, and the batch is larger than the data set"
            evidence = {"samples": samples, "batch_size": loader["batch_size"]}
            hint = "set drop_last for training only"
            return [Finding("validation-complete", "validation loader", "error", text, evidence, cause, hint)]
    return []


def judge_happens(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for checkpoints chosen by a number of a validation that never happened, in a run that ended by itself."""
    trace = traces["straight"]
    if not train_feeds(trace):
        raise Vacuous("no training step was seen")
    if any(feed.call["phase"] != "train" for feed in feeds(trace)):
        return
    keys = (key for event in trace.checkpoints for kind in ("scalars", "types") for key in event.get(kind) or ())
    monitors = {match.group(1) for key in keys if (match := MONITOR.search(key))}
    again = [event for event in trace.events("epoch", action="begin") if event["number"] > 1]
    whole = trace.exit["how"] == "returned" and (again or trace.events("epoch", action="end"))
    if not monitors or not whole:
        raise Vacuous("no validation was seen, and nothing says that there should have been one")
    text = "checkpoints are chosen by a number of the validation, a whole pass of training is over, and none happened"
    cause = "validation is switched off, for instance by a limit of 0 batches left over from debugging"
    evidence = {"monitor": min(monitors)}
    hint = "validate at least once per pass, or monitor a number of the training"
    yield Finding("validation-happens", "validation", "error", text, evidence, cause, hint)


def judge_accumulates(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the rows of losses computed at the end of a validation with the samples of that validation."""
    trace = traces["straight"]
    rounds = validation_passes(trace)
    if len(rounds) < 2:
        raise Vacuous("the run validated fewer than twice")
    starts = [feed.call["n"] for feed in train_feeds(trace)]
    rows: list[tuple[int, set[int]]] = []
    for group in rounds:
        size = sum(_size(feed.call) for feed in group)
        last = group[-1].call["n"]
        until = min((start for start in starts if start > last), default=float("inf"))
        inside = [
            loss for loss in trace.events("loss") if group[0].call["n"] < loss["n"] < until and not loss["grad_enabled"]
        ]
        given = {fact["shape"][0] for loss in inside if (fact := argument(loss, "target")) and fact["shape"]}
        rows.append((size, given))
    total = rows[0][0]
    seen = grown = 0
    for size, given in rows[1:]:
        total += size
        seen += bool(given)
        grown += total in given and size not in given and total > size
    if grown and grown == seen:
        text = "a validation is scored together with the outputs of the validations before it"
        cause = "the lists of outputs and labels are not emptied between validations"
        evidence = {"validations": len(rows), "samples_per_validation": rows[0][0], "scored_last": total}
        yield Finding(
            "validation-fresh",
            "validation loop",
            "error",
            text,
            evidence,
            cause,
            "begin every validation with empty lists",
        )


def _size(call: Mapping[str, Any]) -> int:
    shapes = [fact["shape"] for fact in call["inputs"] if fact["shape"]]
    return int(shapes[0][0]) if shapes else 0


def judge_randomness(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for seeds set again once training has begun: the random numbers start over."""
    trace = traces["straight"]
    training = train_feeds(trace)
    if not training:
        raise Vacuous("no training step was seen")
    begun = training[0].call["n"]
    used = {(event["function"], event["value"]) for event in trace.events("seed") if event["n"] < begun}
    again = [
        event
        for event in trace.events("seed")
        if event["n"] > begun and event["function"] in SEEDS and event["value"] is not None
    ]
    lasting = [event for event in again if not _put_back(trace, event)]
    often = Counter((event["function"], event["value"]) for event in lasting)
    stale = [
        event
        for event in lasting
        if often[event["function"], event["value"]] > 1 or (event["function"], event["value"]) in used
    ]
    evaluating = list(_evaluations(trace))
    for where, chosen in (
        ("validation", [event for event in stale if any(low < event["n"] < high for low, high in evaluating)]),
        ("training loop", [event for event in stale if not any(low < event["n"] < high for low, high in evaluating)]),
    ):
        if chosen:
            text = "the random generator is set back to the same seed while training goes on"
            cause = (
                "a seeding call stands in the loop or in the validation, so that dropout, augmentation and order repeat"
            )
            evidence = {"times": len(chosen), "function": chosen[0]["function"]}
            hint = "seed once at the start; give a validation that needs fixed numbers torch.random.fork_rng()"
            yield Finding("randomness-goes-on", where, "error", text, evidence, cause, hint)


MONITOR = re.compile(r"'monitor': '((?:val|valid|validation|dev)[^']*)'")
SEEDS = {"torch.manual_seed", "numpy.random.seed", "random.seed"}


def _put_back(trace: Trace, seed: Mapping[str, Any]) -> bool:
    """Return whether the state of before was restored after this seed and before the next call that trains.

    A new optimizer made meanwhile does as well: another training begins, of a sweep, a fold or an ensemble.
    """
    following = [feed.call["n"] for feed in train_feeds(trace) if feed.call["n"] > seed["n"]]
    until = min(following, default=float("inf"))
    restores = (
        event
        for event in trace.events("seed")
        if event["function"].endswith(("set_rng_state", "setstate", "set_state"))
    )
    return any(seed["n"] < event["n"] < until for event in (*restores, *trace.events("optimizer")))


def _evaluations(trace: Trace) -> Iterator[tuple[float, float]]:
    """Yield the stretches between training calls in which validation happens."""
    marks = [0, *(feed.call["n"] for feed in train_feeds(trace)), float("inf")]
    calls = [feed.call["n"] for feed in validation_feeds(trace)]
    for low, high in pairwise(marks):
        if any(low < call < high for call in calls):
            yield low, high


CHECKS: tuple[Check, ...] = (
    Check(
        "validation-happens",
        "Validation happens where checkpoints depend on it",
        "metrics",
        judge_happens,
        proves="A run whose checkpoints monitor a number of the validation, and that finished a pass, validated.",
        faults=("validation switched off",),
        limits="Known from what Lightning's ModelCheckpoint writes into checkpoints.",
    ),
    Check(
        "validation-complete",
        "Validation covers its data set",
        "metrics",
        judge_complete,
        proves="A validation pass that runs to its end delivers every sample of the loader's sampler.",
        faults=("drop_last in validation", "return inside the validation loop"),
        limits=(
            "Passes that a limit cuts short are not judged, except that all of them stop after one batch (a warning)."
        ),
    ),
    Check(
        "validation-fresh",
        "Each validation is scored on its own outputs",
        "metrics",
        judge_accumulates,
        cut=True,
        proves="No loss at the end of a validation is computed over the outputs of earlier ones too.",
        faults=("lists of outputs never emptied",),
        limits="Only scores that pass through torch's loss functions are seen.",
    ),
    Check(
        "randomness-goes-on",
        "Random numbers do not start over during training",
        "determinism",
        judge_randomness,
        cut=True,
        proves=(
            "After training has begun, no generator is set to a seed that was used before, unless its state is put "
            "back."
        ),
        faults=("validation sets the seed", "seed set in every epoch"),
        limits="torch's, numpy's and Python's global generators.",
    ),
)
