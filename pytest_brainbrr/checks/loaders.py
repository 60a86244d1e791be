"""Loaders and samplers: every pass delivers, batches follow each other, orders change, workers differ."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import Feed, limited, train_feeds, validation_feeds
from pytest_brainbrr.checks.stages import stage
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

BY_CHANCE = 1e-6
"""A coincidence less probable than this is none."""
UNLIKELY = 1e-4
"""As much as BY_CHANCE where an order is declared to be random."""
ENOUGH = 16
SHUFFLING = {"random", "distributed", "weighted"}


def judge_delivers(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for passes that end without a single batch although there are samples."""
    trace = traces["straight"]
    ended = trace.events("epoch", action="end")
    if not ended:
        raise Vacuous("no pass over a watched loader came to its end")
    loaders = {event["id"]: event for event in trace.events("loader")}
    lengths = {event["id"]: event["length"] for event in trace.events("dataset")}
    fed = {feed.batch["loader"] for feed in train_feeds(trace) if feed.batch is not None}
    empty = set()
    for event in ended:
        loader = loaders.get(event["loader"], {})
        other = fed and event["loader"] not in fed  # a validation loader, which has a check of its own
        if event["batches"] == 0 and not other and lengths.get(loader.get("dataset")) and loader.get("drop_last"):
            empty.add(event["loader"])
    for loader in sorted(empty):
        facts = loaders[loader]
        evidence = {"samples": lengths.get(facts["dataset"]), "batch_size": facts["batch_size"]}
        text = "a loader was iterated and delivered nothing, although its data set holds samples"
        cause = "drop_last with a batch larger than the data set: the only batch is dropped"
        where = "training loader" if loader in fed else "loader"
        hint = "leave drop_last out for validation, or make the batch smaller"
        yield Finding("loader-delivers", where, "error", text, evidence, cause, hint)


def judge_advance(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for training that stays on one batch while the loader has more."""
    trace = traces["straight"]
    fed = [feed for feed in train_feeds(trace) if feed.batch is not None]
    if len(fed) < 3:
        raise Vacuous("fewer than three training calls were fed by a watched loader")
    yield from _restarted(trace, fed)
    yield from _stale(trace, fed)
    yield from _copied(trace)


def _restarted(trace: Trace, fed: list[Feed]) -> Iterator[Finding]:
    """A new pass for every step, always with the same first samples."""
    if limited(trace, "limit_train_batches"):
        return  # To overfit one batch is a debugging aid that was asked for.
    loaders = {event["id"]: event for event in trace.events("loader")}
    firsts = [feed.batch for feed in fed if feed.batch and feed.batch["position"] == 0 and feed.batch["base_indices"]]
    passes = {batch["epoch"]: batch for batch in firsts}
    most = Counter(tuple(batch["base_indices"]) for batch in passes.values()).most_common(1)
    more = any((loaders.get(batch["loader"], {}).get("batches") or 0) > 1 for batch in passes.values())
    every = {feed.batch["epoch"] for feed in fed if feed.batch}
    only = all(feed.batch and feed.batch["position"] == 0 for feed in fed)
    # Twice is enough where each of the passes was left after its first batch, for several steps.
    enough = 2 if len({feed.call["step"] for feed in fed}) >= 2 * len(every) else 3
    if most and only and most[0][1] >= enough and most[0][1] == len(every) and more:
        text = "training only ever uses the first batch of a pass that was just begun, the same samples each time"
        cause = "next(iter(loader)) inside the loop makes a new iterator for every step"
        hint = "make the iterator once, outside the loop; to overfit one batch, fetch it once"
        yield Finding("batches-advance", "training loop", "error", text, {"passes": most[0][1]}, cause, hint)


def _stale(trace: Trace, fed: list[Feed]) -> Iterator[Finding]:
    """Batches are delivered while one and the same is used."""
    first = fed[0].batch
    assert first is not None
    if any(feed.batch is None or feed.batch["n"] != first["n"] for feed in fed):
        return
    later = [
        batch
        for batch in trace.events("batch")
        if batch["loader"] == first["loader"] and first["n"] < batch["n"] < fed[-1].call["n"]
    ]
    if len(later) >= 2:
        text = "the loader goes on, but every step trains on the batch delivered first"
        cause = "the loop's variable is not the one the model is called with"
        evidence = {"delivered": len(later) + 1, "used": 1}
        yield Finding(
            "batches-advance",
            "training loop",
            "error",
            text,
            evidence,
            cause,
            "call the model with the batch of this step",
        )


def _copied(trace: Trace) -> Iterator[Finding]:
    """Workers of an iterable data set that each deliver everything."""
    for loader in trace.events("loader", sampler_kind="iterable"):
        if loader["workers"] < 2:
            continue
        passes: dict[str, list[str]] = {}
        for batch in trace.events("batch", loader=loader["id"]):
            digests = [str(part["digest"]) for part in batch["tensors"]]
            passes.setdefault(batch["epoch"], []).append("".join(digests))
        counts = [count for batches in passes.values() if len(batches) >= 4 for count in Counter(batches).values()]
        if len(counts) >= 2 and sum(count >= 2 for count in counts) >= max(2, len(counts) - loader["workers"]):
            text = "each worker delivers all samples of the iterable data set: every batch comes once per worker"
            cause = "the data set does not ask get_worker_info() for its share"
            hint = "let each worker read its own part of the files"
            yield Finding("batches-advance", "workers", "error", text, {"workers": loader["workers"]}, cause, hint)


def judge_order(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the order of training samples with the data set's own, and with that of the pass before."""
    trace = traces["straight"]
    passes = _orders(trace)
    if not any(len(order) > 1 for _, _, order in passes):
        raise Vacuous("training samples carry no index: no watched loader, or an iterable data set")
    found = list(_repeated(traces, target, passes))
    if target.shuffled:
        return [*found, *_in_order(passes)]
    loaders = {event["id"]: event for event in trace.events("loader")}
    ascending = [
        order[0]
        for event, batches, order in passes
        if batches >= 3 and all(later == earlier + 1 for earlier, later in pairwise(order))
    ]
    loader = loaders.get(passes[0][0]["loader"], {})
    again = [order[0] for _, _, order in passes].count(ascending[0]) > 1 if ascending else False
    if again and len(ascending) == sum(batches >= 3 for _, batches, _ in passes) and loader.get("batch_size") != 1:
        text = "training reads its samples in the order of the data set"
        cause = "shuffle is off, or the sampler returns its indices as they are"
        hint = "shuffle training data, unless their order matters on purpose"
        evidence = {"sampler": loader.get("sampler")}
        found.append(Finding("order-shuffled", "training loader", "warning", text, evidence, cause, hint))
    return found


def _orders(trace: Trace) -> list[tuple[dict[str, Any], int, list[int]]]:
    """Return begin event, number of batches and sample order of every pass that trained."""
    begun = {event["id"]: event for event in trace.events("epoch", action="begin")}
    trained = {feed.batch["epoch"] for feed in train_feeds(trace) if feed.batch is not None}
    orders: dict[str, list[list[int]]] = {}
    for batch in trace.events("batch"):
        if batch["epoch"] in trained and batch["base_indices"] and isinstance(batch["base_indices"][0], int):
            orders.setdefault(batch["epoch"], []).append(batch["base_indices"])
    return [
        (begun[name], len(batches), [index for batch in batches for index in batch])
        for name, batches in orders.items()
        if name in begun
    ]


def _in_order(passes: list[tuple[dict[str, Any], int, list[int]]]) -> Iterator[Finding]:
    """Report samples declared to come in a random order that come in the data set's own."""
    orders = [order for _, batches, order in passes if len(set(order)) > 1]
    if orders and all(order == sorted(order) for order in orders):
        chance = math.exp(-sum(math.lgamma(len(set(order)) + 1) for order in orders))
        if chance < UNLIKELY:
            text = "training reads its samples in the order of the data set, though they are declared to be shuffled"
            cause = "shuffle is off, or the sampler sorts its indices"
            evidence = {"passes": len(orders), "samples": len(orders[0])}
            hint = "draw a random order for every epoch"
            yield Finding("order-shuffled", "training loader", "error", text, evidence, cause, hint)


def _repeated(
    traces: Mapping[str, Trace], target: Target, passes: list[tuple[dict[str, Any], int, list[int]]]
) -> Iterator[Finding]:
    trace = traces["straight"]
    if target.shuffled:
        yield from _always_alike(trace, passes)
        return
    loaders = {event["id"]: event for event in trace.events("loader")}
    lengths = {event["id"]: event["length"] for event in trace.events("dataset")}
    for (one, _, before), (other, _, after) in pairwise(passes):
        loader = loaders.get(other["loader"], {})
        if loaders.get(one["loader"], {}).get("dataset") != loader.get("dataset"):
            continue
        shared = min(len(before), len(after))
        samples = lengths.get(loader.get("dataset")) or len(set(before))
        if before[:shared] != after[:shared] or before == sorted(before) or _chance(samples, shared) > BY_CHANCE:
            continue
        if stage(trace, one["n"]) != stage(trace, other["n"]):
            continue  # Another training, of the same seed: a fold, a trial of a search.
        counts_epochs = other["sampler_epoch"] is not None
        if loader.get("sampler_kind") not in SHUFFLING and not counts_epochs:
            continue  # A fixed order that is not sorted may be meant: a curriculum, for instance.
        text = "two epochs read the same shuffled order"
        cause = "the generator is seeded anew for every epoch, or the sampler is not told the number of the epoch"
        hint = "seed once; call sampler.set_epoch(epoch) before every pass and let the order depend on it"
        yield Finding("order-changes", "training loader", "error", text, {"samples": shared}, cause, hint)
        return


def _always_alike(trace: Trace, passes: list[tuple[dict[str, Any], int, list[int]]]) -> Iterator[Finding]:
    """Report an order that is declared to change and is the same in every pass, whatever loader serves it."""
    lengths = {event["id"]: event["length"] for event in trace.events("dataset")}
    loaders = {event["id"]: event for event in trace.events("loader")}
    sources = [loaders.get(event["loader"], {}).get("dataset") for event, _, _ in passes]
    chance = 1.0
    for (_, _, before), (_, _, after) in pairwise(passes):
        shared = min(len(before), len(after))
        if before[:shared] != after[:shared] or before == sorted(before):
            return
        chance *= _chance(lengths.get(sources[0]) or len(set(before)), shared)
    if len(set(sources)) == 1 and chance < UNLIKELY:
        text = "every epoch reads its samples in one and the same order, though they are declared to be shuffled"
        cause = "the generator is seeded anew for every epoch, or the sampler is not told the number of the epoch"
        hint = "let the order depend on the epoch"
        yield Finding("order-changes", "training loader", "error", text, {"passes": len(passes)}, cause, hint)


def _chance(samples: int, length: int) -> float:
    """Return how probable it is that two shuffles begin alike.

    >>> _chance(4, 4) == 1 / 24
    True
    """
    logarithm = sum(math.log(max(1, samples - place)) for place in range(min(length, samples)))
    return math.exp(-min(logarithm, 700.0))


def judge_changes(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Report orders that repeat from epoch to epoch."""
    trace = traces["straight"]
    passes = _orders(trace)
    if len(passes) < 2:
        raise Vacuous("the run did not begin a second pass over a loader with indices")
    return list(_repeated(traces, target, passes))


def judge_shuffled(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Report training in the order of the data set."""
    return [finding for finding in judge_order(traces, target) if finding.check == "order-shuffled"]


def judge_workers(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the generators of loader workers that draw from them."""
    trace = traces["straight"]
    workers = [event for event in trace.events("worker", role="worker", after=True) if (event["workers"] or 0) > 1]
    if not workers:
        raise Vacuous("no loader used two or more workers that could be watched")
    fetches: dict[int, list[dict[str, Any]]] = {}
    for event in trace.events("fetch", role="worker", after=True):
        fetches.setdefault(event["pid"], []).append(event)
    teams: dict[tuple[str, int], list[dict[str, Any]]] = {}
    seen: Counter[tuple[str, int]] = Counter()
    for event in sorted(workers, key=lambda event: event["t"]):
        place = (str(event["loader"]), event["worker"])
        teams.setdefault((str(event["loader"]), seen[place]), []).append(event)
        seen[place] += 1
    hint = "draw from torch's generator, or seed from torch.initial_seed() in worker_init_fn"
    for source, at_start, at_fetch in (
        ("numpy", "numpy", "numpy_before"),
        ("data set", "dataset_rng", "dataset_rng"),
        ("python", "python", "python_before"),
    ):
        drawing = {pid for pid, events in fetches.items() if len({event.get(at_fetch) for event in events}) > 1}
        for team in teams.values():
            states = Counter(event.get(at_start) for event in team if event.get(at_start) and event["pid"] in drawing)
            if states and max(states.values()) > 1:
                text = "workers draw the same random numbers"
                cause = (
                    "every worker starts from one seed: a fixed worker_init_fn, or a generator made before the workers"
                )
                evidence = {"workers": len(team), "alike": max(states.values())}
                yield Finding("workers-differ", f"{source} generator", "error", text, evidence, cause, hint)
                break


def judge_drawn(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the share of positive labels that a sampler with a choice draws with that of the held-out samples."""
    trace = traces["straight"]
    choosing = {event["id"] for event in trace.events("loader") if event["sampler_kind"] in {"weighted", "custom"}}
    drawn = _positive(
        feed for feed in train_feeds(trace) if feed.batch is not None and feed.batch["loader"] in choosing
    )
    held_out = _positive(validation_feeds(trace))
    if len(drawn) < ENOUGH or len(held_out) < ENOUGH:
        raise Vacuous("no weighted or custom sampler drew enough labelled samples to compare with held-out ones")
    share, wanted = sum(drawn) / len(drawn), sum(held_out) / len(held_out)
    if share * 3 > wanted or _tail(sum(drawn), len(drawn), wanted) > BY_CHANCE:
        return
    text = "the sampler draws far fewer positive samples than the held-out data hold"
    cause = "sampling weights are inverted: the rare class gets the small weight"
    evidence = {"drawn": len(drawn), "positive": sum(drawn), "held_out_share": round(wanted, 3)}
    hint = "weigh each sample by the inverse of its class's frequency"
    yield Finding("positives-drawn", "training sampler", "warning", text, evidence, cause, hint)


def _positive(feeds: Iterable[Feed]) -> list[bool]:
    """Return for each sample whether its only label, one number from 0 to 1, is positive."""
    found: list[bool] = []
    for feed in feeds:
        labels = [label for label in feed.labels if len(label["shape"]) == 1 and label.get("row_means")]
        if len(labels) == 1 and 0 <= labels[0]["min"] <= labels[0]["max"] <= 1:
            found += [value > 0 for value in labels[0]["row_means"]]
    return found


def _tail(count: int, total: int, share: float) -> float:
    """Return the probability of at most ``count`` among ``total`` at this share.

    >>> round(_tail(0, 2, 0.5), 3)
    0.25
    """
    return sum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(count + 1))


CHECKS: tuple[Check, ...] = (
    Check(
        "positives-drawn",
        "The sampler draws the rare class as often as it occurs",
        "sampling",
        judge_drawn,
        proves=(
            "A weighted or custom sampler does not draw positives less than a third as often as held-out data hold "
            "them."
        ),
        faults=("sampling weights inverted",),
        limits="A statistic, so a warning. One label from 0 to 1 per sample; held-out data stand for the prior.",
    ),
    Check(
        "loader-delivers",
        "Loaders deliver batches",
        "sampling",
        judge_delivers,
        proves="No pass over a loader with samples ends without a batch.",
        faults=("drop_last on a small data set",),
        limits="Loaders of other classes than torch's DataLoader are not seen.",
    ),
    Check(
        "batches-advance",
        "Each step trains on its own batch",
        "sampling",
        judge_advance,
        cut=True,
        proves="Steps use the batches that the loader goes on to deliver, and workers do not all deliver the same.",
        faults=(
            "iterator made anew in the loop",
            "stale variable in the loop",
            "iterable data set not shared out among workers",
        ),
        limits="A single batch fetched once and used again (to overfit on purpose) is healthy.",
    ),
    Check(
        "order-changes",
        "The shuffled order changes from epoch to epoch",
        "sampling",
        judge_changes,
        cut=True,
        proves="Two passes of a shuffling sampler, or of one that counts epochs, differ in order.",
        faults=("set_epoch forgotten", "generator seeded for every epoch", "sampler ignores the epoch"),
        limits="Needs a second pass within the run; custom samplers without an epoch may repeat an order on purpose.",
    ),
    Check(
        "order-shuffled",
        "Training does not read the data set in its own order",
        "sampling",
        judge_shuffled,
        cut=True,
        proves="The order of training samples is not simply ascending.",
        faults=("shuffle left out", "sampler returns sorted indices"),
        limits="A warning: some trainers read in order on purpose. Needs the beginning of a second pass.",
    ),
    Check(
        "workers-differ",
        "Loader workers draw different random numbers",
        "augmentation",
        judge_workers,
        proves=(
            "Workers that draw from numpy's, Python's or the data set's own generator start from different states."
        ),
        faults=("numpy seeded alike in all workers", "generator held by the data set and copied to every worker"),
        limits="Needs two batches per worker to see that a generator is used.",
    ),
)
