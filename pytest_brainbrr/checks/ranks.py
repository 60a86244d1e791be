"""Several processes: one set of weights, different samples, one writer."""

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.iterations import error
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

SHARDED = ("FullyShardedDataParallel", "FSDPModule", "DeepSpeedEngine", "Pipeline")


def _ranks(trace: Trace) -> dict[int, list[dict[str, Any]]]:
    """Return pid -> events of every process that joined a group of several.

    Raises:
        Vacuous: there are not two such processes.
    """
    joined = {
        event["pid"]
        for event in trace.events("distributed", role=None, action="init")
        if (event.get("world_size") or 1) > 1
    }
    if len(joined) < 2:
        raise Vacuous("no training in several processes was seen")
    return {
        pid: [event for event in trace.all if event.get("pid") == pid and not event.get("after")]
        for pid in sorted(joined)
    }


def same_weights(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """After every step all ranks hold the same weights."""
    trace = traces["straight"]
    ranks = _ranks(trace)
    wraps = trace.events("distributed", role=None, action="wrap")
    if any(event.get("wrapper") in SHARDED for event in wraps):
        raise Vacuous("weights are sharded over the ranks")
    steps = {pid: [event for event in events if event["kind"] == "step"] for pid, events in ranks.items()}
    names = {pid: [fact["name"] for fact in own[0]["parameters"]] for pid, own in steps.items() if own}
    wrapped = any(event.get("wrapper") == "DistributedDataParallel" for event in wraps)
    idle = [pid for pid, events in ranks.items() if not steps[pid] and _backwards(events) > 2]
    if wrapped and idle and any(len(own) > 2 for own in steps.values()):
        yield error(
            "ranks-agree",
            "<weights>",
            "some ranks compute gradients and never take a step: they keep their initial weights",
            cause="optimizer.step() stands behind a condition on the rank",
            hint="take the step on every rank; gradients are averaged, so all of them stay alike",
            ranks=len(ranks),
            without_steps=len(idle),
        )
        return
    if len(names) < 2:
        raise Vacuous("fewer than two ranks took steps")
    if len({tuple(own) for own in names.values()}) > 1:
        raise Vacuous("ranks hold different parameters: the model is split over them")
    digests = [[step["digest"] for step in steps[pid]] for pid in names]
    common = min(len(own) for own in digests)
    apart = [place for place in range(common) if len({own[place] for own in digests}) > 1]
    if any(_together([steps[pid][place] for pid in names]) for place in range(1, common)):
        return  # Ranks step alone for a while, and their weights are averaged between two steps.
    if len(apart) == common and common:
        yield error(
            "ranks-agree",
            "<weights>",
            "ranks hold different weights after every step: each trains a model of its own",
            cause="the module inside DistributedDataParallel is called instead of the wrapper, or parameters were "
            "replaced after wrapping"
            if wrapped
            else "gradients are never averaged: the model is not wrapped",
            hint="call the wrapped model, wrap last, and build the optimizer on it",
            ranks=len(digests),
            steps=common,
        )


def _backwards(events: list[dict[str, Any]]) -> int:
    return sum(event["kind"] == "backward" for event in events)


def _together(steps: list[dict[str, Any]]) -> bool:
    """Return whether all ranks held weights of equal norms right before this step."""
    norms = {tuple(fact.get("weight_norm") for fact in step["parameters"]) for step in steps}
    return len(norms) == 1 and None not in next(iter(norms)) and bool(next(iter(norms)))


def own_samples(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """Ranks train on different samples."""
    trace = traces["straight"]
    ranks = _ranks(trace)
    fed = {}
    for pid, events in ranks.items():
        reached = {call for event in events if event["kind"] == "backward" for call in event["forwards"]}
        inputs = [
            tuple(fact["digest"] for fact in event["inputs"] if fact.get("digest"))
            for event in events
            if event["kind"] == "forward" and event["call"] in reached and event["inputs"]
        ]
        if inputs:
            fed[pid] = inputs
    if len(fed) < 2:
        raise Vacuous("inputs of fewer than two ranks were seen")
    lists = list(fed.values())
    common = min(len(own) for own in lists)
    same = sum(all(own[place] == lists[0][place] for own in lists) for place in range(common))
    if same == common and common > 1 and any(lists[0]):
        yield error(
            "ranks-share-work",
            "<samples>",
            "all ranks train on the same samples: more processes, and not one sample more",
            cause="no DistributedSampler, or one made with the wrong rank",
            hint="give each loader a DistributedSampler, or split the indices by rank",
            batches=common,
        )


def epochs_differ(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """A distributed sampler that shuffles is told the epoch."""
    trace = traces["straight"]
    loaders = {
        (loader["pid"], loader["id"]): loader
        for loader in trace.events("loader", role=None)
        if loader["sampler_kind"] == "distributed"
    }
    trained = {(batch.get("pid"), batch["loader"]) for batch in trace.batches("train")}
    judged = False
    for key, loader in loaders.items():
        passes = [
            event
            for event in trace.events("epoch", role=None, action="begin")
            if (event.get("pid"), event["loader"]) == key
        ]
        if len(passes) < 2 or (trained and key not in trained and loader.get("role") == "main"):
            continue
        judged = True
        if (
            loader.get("shuffle") is not False
            and len({event["sampler_epoch"] for event in passes}) == 1
            and _order(trace, key)
        ):
            yield error(
                "sampler-told-epoch",
                "DistributedSampler",
                "every epoch has the same order of samples",
                cause="sampler.set_epoch(epoch) is missing",
                hint="call sampler.set_epoch(epoch) at the beginning of each epoch",
                epochs=len(passes),
            )
            return
    if not judged:
        raise Vacuous("no distributed sampler began two epochs")


def _order(trace: Trace, key: tuple[Any, Any]) -> bool:
    """Return whether two passes of a loader delivered equal, unsorted orders."""
    orders: dict[str, list[int]] = {}
    for batch in trace.events("batch", role=None):
        if (batch.get("pid"), batch["loader"]) == key and batch["indices"]:
            orders.setdefault(batch["epoch"], []).extend(batch["indices"])
    seen = list(orders.values())
    if len(seen) < 2:
        return False
    short = min(len(seen[0]), len(seen[1]))
    return short > 3 and seen[0][:short] == seen[1][:short] and seen[0] != sorted(seen[0])


def one_writer(traces: Mapping[str, Trace], target: Target) -> Iterator[Finding]:
    """No two ranks write one checkpoint."""
    trace = traces["straight"]
    _ranks(trace)
    writers: dict[str, set[Any]] = {}
    for event in trace.events("checkpoint_write", role=None):
        if event["path"] and event["tensors"]:
            writers.setdefault(str(event["final"]), set()).add(event.get("pid"))
    if not writers:
        raise Vacuous("no checkpoint was written")
    shared = sorted(path for path, pids in writers.items() if len(pids) > 1)
    if shared:
        yield error(
            "one-writer",
            "<checkpoint>",
            "several ranks wrote one and the same checkpoint file: the last one wins, or the file is torn",
            cause="saving is not limited to rank 0",
            hint="save on rank 0 and wait at a barrier, or give each rank a file of its own",
            files=len(shared),
        )


CHECKS: tuple[Check, ...] = (
    Check(
        "ranks-agree",
        "After every step all ranks hold the same weights.",
        "ranks",
        same_weights,
        proves="Digests of the stepped parameters agree between processes.",
        faults=("the raw module called instead of the DDP wrapper", "parameters replaced after wrapping", "no wrapper"),
        limits="Sharded and pipelined models are vacuous. Ranks may step alone if their weights have equal norms "
        "before some later step.",
    ),
    Check(
        "ranks-share-work",
        "Ranks train on different samples.",
        "ranks",
        own_samples,
        proves="Inputs of training calls differ between processes.",
        faults=("no DistributedSampler",),
        limits="Compares calls in order.",
    ),
    Check(
        "sampler-told-epoch",
        "A distributed sampler is told the epoch.",
        "ranks",
        epochs_differ,
        cut=True,
        proves="Two epochs of a distributed sampler have different orders.",
        faults=("set_epoch forgotten",),
        limits="Needs two epochs within the run.",
    ),
    Check(
        "one-writer",
        "No two ranks write one checkpoint.",
        "ranks",
        one_writer,
        cut=True,
        proves="Paths of checkpoints by process.",
        faults=("every rank saves",),
        limits="Sharded formats write one file per rank and pass.",
    ),
)
