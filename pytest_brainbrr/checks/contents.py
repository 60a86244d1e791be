"""What stands behind the indices: different samples differ, and every sample of a data set can be drawn."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import Fact, elements, feeds
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

SHORTEST = 16
"""Rows of fewer numbers may be equal by chance."""
ENOUGH, FEWEST = 8, 3

Contents = dict[str, dict[Any, tuple[Any, ...]]]


def judge_distinct(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for one signal behind several indices of a data set."""
    found = _contents(traces["straight"])
    alike, reread = _read_alike(traces.get("probe"))
    if alike:
        text = "every index of the data set gives one and the same sample, read again under the same random numbers"
        cause, hint = "the index is not used, or a cache is keyed without it", "use the index in __getitem__"
        yield Finding("samples-distinct", "data set", "warning", text, {"samples": alike}, cause, hint)
        return
    if not reread and not any(len(samples) >= ENOUGH for samples in found.values()):
        raise Vacuous("too few samples with an index and a signal of floats were delivered")
    for samples in found.values():
        if len(samples) < ENOUGH:
            continue
        often = Counter(signal for signal, _ in samples.values())
        shared = {signal: count for signal, count in often.items() if count > 1}
        most = max(often.values())
        labels: dict[Any, set[Any]] = {}
        for signal, label in samples.values():
            labels.setdefault(signal, set()).add(label)
        torn = sum(often[signal] for signal in shared if len(labels[signal]) > 1)
        evidence = {"samples": len(samples), "different": len(often), "most_alike": most}
        hint = "look at what the data set returns for two indices; key caches by file and position"
        if len(often) == 1:
            text = "every index of the data set gives one and the same signal"
            cause = "the index is not used, or a cache is keyed without it"
        elif torn >= FEWEST:
            text = "one and the same signal comes back under several indices, with different labels"
            cause = "a cache is keyed without the file or the position, or reading fails and a stand-in is returned"
            evidence["contradicting"] = torn
        elif most >= FEWEST and len(often) - len(shared) > len(samples) / 2:
            text = "most samples differ, but several indices give one and the same signal"
            cause = "samples that cannot be read are replaced by a stand-in"
        else:
            continue
        yield Finding("samples-distinct", "data set", "warning", text, evidence, cause, hint)
        return


def _read_alike(trace: Trace | None) -> tuple[int, bool]:
    """Return how many indices of a data set gave one and the same sample (0: they differ), and whether any was read."""
    samples: dict[str, dict[Any, tuple[tuple[str, Any], ...]]] = {}
    for event in trace.events("reread", after=True) if trace is not None else ():
        samples.setdefault(event["loader"], {})[event["index"]] = tuple(sorted(event["digests"][0].items()))
    long = [known for known in samples.values() if len(known) >= ENOUGH]
    for known in long:
        contents = set(known.values())
        if len(contents) == 1 and any(place.endswith("/form") and form for place, form in next(iter(contents))):
            return len(known), True
    return 0, bool(long)


def _contents(trace: Trace) -> Contents:
    """Return loader -> index -> digests of the signals that the model was given, and of all else in the sample."""
    found: Contents = {}
    moved: set[str] = set()
    for feed in feeds(trace):
        batch = feed.batch
        if batch is None or not batch["indices"]:
            continue
        signals = [part for part, _ in feed.signals]
        taken = {part["at"] for part in signals}
        rest = [part for part in batch["tensors"] if part["at"] not in taken and part.get("samples")]
        count = len(batch["indices"])
        if not signals or not any(_telling(part) for part in signals):
            continue
        if any(len(part.get("samples") or ()) != count for part in (*signals, *rest)):
            continue
        for row, index in enumerate(batch["indices"]):
            signal = tuple(part["samples"][row] for part in signals)
            other = tuple(part["samples"][row] for part in rest)
            known = found.setdefault(batch["loader"], {}).setdefault(index, (signal, other))
            if known[0] != signal:
                moved.add(batch["loader"])
    # Where one index gives another signal every time, equal ones are no accident of the data set.
    return {loader: samples for loader, samples in found.items() if loader not in moved}


def _telling(part: Fact) -> bool:
    return (
        "float" in part["dtype"]
        and not part["constant"]
        and part.get("values") is None
        and elements(part) >= SHORTEST * max(1, part["shape"][0])
    )


def judge_weights(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the number of sampling weights with the number of samples."""
    trace = traces["straight"]
    lengths = {event["id"]: event["length"] for event in trace.events("dataset")}
    weighted = [event for event in trace.events("loader", sampler_kind="weighted") if event["weights"]]
    if not weighted:
        raise Vacuous("no loader with a WeightedRandomSampler was made")
    for loader in weighted:
        samples, weights = lengths.get(loader["dataset"]), loader["weights"]["n"]
        if samples is not None and samples != weights:
            text = "the sampler holds another number of weights than the data set holds samples"
            cause = "the weights were computed for another data set: of the validation, before a filter, or per class"
            evidence = {"weights": weights, "samples": samples}
            hint = "compute the weights from the labels of the very data set that the loader is given"
            yield Finding("sampler-fits", "training sampler", "error", text, evidence, cause, hint)
            return


CHECKS: tuple[Check, ...] = (
    Check(
        "samples-distinct",
        "Different samples of a data set are different",
        "reading",
        judge_distinct,
        wants=("probe",),
        proves="No signal comes back under several indices with different labels, or as a stand-in among others.",
        faults=("cache keyed without the file", "index not used", "unreadable samples replaced by a stand-in"),
        limits=(
            "A warning: data may hold copies. Signals of 16 floats or more that are read alike each time, reached by "
            "the run. Data sets that repeat all samples alike are left alone."
        ),
    ),
    Check(
        "sampler-fits",
        "A weighted sampler has one weight for each sample",
        "sampling",
        judge_weights,
        proves="The number of weights is the length of the loader's data set.",
        faults=("weights of another data set", "weights per class instead of per sample"),
        limits="torch's WeightedRandomSampler.",
    ),
)
