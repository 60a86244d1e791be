"""What the model is given: finite, telling, in the right place, of the batch that was delivered."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import (
    Fact,
    Feed,
    elements,
    feeds,
    losses_of,
    same_bytes,
    train_feeds,
    validation_feeds,
)
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

OTHER_SCALE = 10.0
"""Ratio of root mean squares between training and validation that no sound pair of both has."""
VOLTS = 1e-4
"""Inputs of a smaller root mean square are no standardised signal, and no microvolts."""
NEAR = 1e-5
WINDOW = 32
"""Fewer numbers than this may all be zero in a healthy sample: coordinates, states, a truth table."""
LATER = re.compile(r"(^|[^a-z])(test|tst|hold[-_]?out|unlabell?ed)([^a-z]|$)", re.IGNORECASE)
"""Names of files that training has no business with."""
FRAMEWORKS = frozenset(
    {
        "accelerate", "datasets", "huggingface_hub", "joblib", "lightning", "lightning_fabric", "matplotlib", "mne",
        "numba", "pandas", "pytorch_lightning", "scipy", "sklearn", "torchmetrics", "torchvision", "transformers",
        "wandb",
    }
)  # fmt: skip
"""Packages whose own variables say nothing of the trainer's data."""
SUBSET_SWITCH = re.compile(r"LIMIT|SUBSET|DEBUG|FAST|SMOKE|MAX_FILES|N_FILES", re.IGNORECASE)


def judge_constant(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for inputs that say nothing: one number everywhere, windows of zeros, channels that never move."""
    trace = traces["straight"]
    given = [(feed, fact) for feed in train_feeds(trace) for fact in feed.inputs if _signal(fact)]
    if not given:
        raise Vacuous("no training call was given a floating tensor of two or more dimensions")
    evidence = {"calls": len(given)}
    cause = (
        "reading fails and an exception handler returns zeros, or standardising divides by an infinite or a wrong scale"
    )
    hint = "let a file that cannot be read be an error, or a counted and named skip"
    if all(fact["constant"] and fact["min"] == 0 for _, fact in given):
        text = "every input of every training call is all zeros"
        return [Finding("inputs-alive", "model input", "error", text, evidence, cause, hint)]
    rows, zeros = 0, 0
    for feed in train_feeds(trace):
        energies = _energies(feed)
        rows += len(energies)
        zeros += sum(energy == 0 for energy in energies)
    if zeros:
        text = "some windows the model trains on are all zeros"
        evidence = {"windows": rows, "zeros": zeros}
        return [Finding("inputs-alive", "windows", "warning", text, evidence, cause, hint)]
    flat = [set(fact["flat"]) for _, fact in given if fact.get("flat") is not None]
    dead = set.intersection(*flat) if flat else set()
    if dead and len(flat) == len(given):
        text = "a channel is flat in every window of every batch"
        cause = "the channel is missing in the recordings, or a division by its own zero deviation was painted over"
        hint = "leave the channel out, interpolate it, or refuse such recordings; do not replace NaN by zero"
        return [Finding("inputs-alive", "channels", "warning", text, {"channels": sorted(dead)[:8]}, cause, hint)]
    return []


def _energies(feed: Feed) -> list[float]:
    """Return the energy of each window of a call. A state, mask or second signal beside it may be zero on its own."""
    windows = [fact for fact in feed.inputs if _signal(fact) and fact.get("row_rms")]
    # Rows of a table without a negative number count or mark something, and may have nothing to count: words of a text.
    wide = [
        fact
        for fact in windows
        if elements(fact) >= WINDOW * fact["shape"][0] and not (len(fact["shape"]) == 2 and fact["min"] == 0)
    ]
    if not wide or (len(feed.inputs) > 1 and any(fact["constant"] and fact["min"] == 0 for fact in wide)):
        return []
    # A row that the loader delivered alive was blanked on purpose: masked, dropped, gated.
    sources = [part for part, given in feed.signals if any(given is fact for fact in windows)]
    sides = [
        fact["row_rms"]
        for fact in (*windows, *sources)
        if fact.get("row_rms") and fact["shape"][0] == wide[0]["shape"][0]
    ]
    return [max(energies) for energies in zip(*sides, strict=True)]


def judge_finite(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look for inputs with NaN or infinity that come out of the model as such."""
    calls = [call for call in traces["straight"].events("forward") if call["inputs"]]
    if not calls:
        raise Vacuous("no model was called with a tensor")
    bad = [call for call in calls if _nonfinite(call["inputs"]) and _nonfinite(call["outputs"])]
    if bad:
        text = "the model is given NaN or infinity, and returns them"
        cause = (
            "a standard deviation of zero is divided by, gaps in a recording are NaN, or an unreadable file is replaced"
        )
        evidence = {"calls": len(bad), "of": len(calls)}
        hint = "refuse or leave out such windows where they are read, and say so"
        yield Finding("inputs-finite", "model input", "error", text, evidence, cause, hint)


def _nonfinite(facts: Iterable[Fact]) -> bool:
    return any(fact["finite"] is False for fact in facts)


def judge_scale(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare the size of the inputs with what an untouched volt signal would have."""
    trace = traces["straight"]
    sizes = [fact["rms"] for feed in train_feeds(trace) for fact in feed.inputs if _signal(fact) and fact.get("rms")]
    if not sizes:
        raise Vacuous("no training call was given a floating tensor of two or more dimensions")
    if max(sizes) < VOLTS:
        text = "the model's inputs are smaller than a ten-thousandth"
        cause = "the signal is still in volts, or is divided by the wrong scale"
        hint = "convert to microvolts once, where the file is read, or standardise with the data's own deviation"
        return [Finding("input-scale", "model input", "warning", text, {"largest_rms": max(sizes)}, cause, hint)]
    return list(_other_scale(trace))


def _other_scale(trace: Trace) -> Iterator[Finding]:
    """Warn where validation gives the model signals of another size than training does, in every call."""
    sides: list[dict[Any, list[float]]] = [{}, {}]
    for side, found in zip(sides, (train_feeds(trace), validation_feeds(trace)), strict=True):
        for feed in found:
            for fact in feed.inputs:
                if _signal(fact) and fact.get("rms"):
                    key = feed.call["model"], fact["at"], len(feed.inputs), len(fact["shape"])
                    side.setdefault(key, []).append(fact["rms"])
    for key in sides[0].keys() & sides[1].keys():
        ours, theirs = sides[0][key], sides[1][key]
        if min(len(ours), len(theirs)) < 2 or not (
            max(theirs) * OTHER_SCALE < min(ours) or max(ours) * OTHER_SCALE < min(theirs)
        ):
            continue
        text = "validation gives the model signals of another order of magnitude than training does"
        cause = "signals are scaled for one part only, or noise is all that training sees of them"
        hint = "scale both parts in the same place, with the same numbers"
        evidence = {"training_rms": max(ours), "validation_rms": max(theirs)}
        yield Finding("input-scale", "validation input", "warning", text, evidence, cause, hint)
        return


def judge_rows_kept(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Compare each row of the model's input with the same row of the batch."""
    trace = traces["straight"]
    pairs = [(feed, part, given) for feed in feeds(trace) for part, given in feed.signals if _signal(part)]
    if not pairs:
        raise Vacuous("no model input has the shape of a tensor that a watched loader delivered")
    scrambled = [pair for pair in pairs if _scrambled(*pair[1:]) and not _mixes_labels(trace, pair[0])]
    if not scrambled:
        return []
    return [
        Finding(
            "samples-whole",
            "model input",
            "error",
            "the model's input holds the batch's numbers, but in other rows: samples are cut up and mixed",
            {"calls": len(scrambled), "of": len(pairs)},
            "reshape or view where permute or transpose was meant",
            "move axes with permute; reshape only joins or splits neighbours",
        )
    ]


def _signal(fact: Fact) -> bool:
    return "float" in fact["dtype"] and len(fact["shape"]) > 1 and elements(fact) > fact["shape"][0]


def _scrambled(part: Fact, given: Fact) -> bool:
    """Return whether the numbers are the same in other rows: neither a new order nor changes within rows explain it."""
    if same_bytes(part, given) or list(part["shape"]) != list(given["shape"]) or part["shape"][0] < 2:
        return False
    if part["constant"] or not part.get("row_means") or not given.get("row_means") or not part["finite"]:
        return False
    if part["min"] != given["min"] or part["max"] != given["max"] or not _near(part["rms"], given["rms"], part["rms"]):
        return False
    if not _near(part["mean"], given["mean"], part["rms"]):
        return False
    ordered = zip(sorted(part["row_means"]), sorted(given["row_means"]), strict=True)
    return sum(not _near(one, other, part["rms"]) for one, other in ordered) > 1


def _near(one: float, other: float, scale: float) -> bool:
    return abs(one - other) <= NEAR * max(abs(scale), 1e-30)


def _mixes_labels(trace: Trace, feed: Feed) -> bool:
    """Return whether the labels are mixed along with the samples, as CutMix does."""
    losses = losses_of(trace, feed)
    return len(losses) > 1 or any(loss.get("target_from") is None for loss in losses)


def judge_files(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Count files that lie beside those read, of the same folder and kind, and were never opened."""
    trace = traces["straight"]
    first = trace.first("forward")
    opened = trace.events("file_open", mode="read", role=None, after=True)
    if first is None or not opened:
        raise Vacuous("no file below the workdir was seen being read")
    if any(_limits(event) for event in trace.events("environment_read")):
        raise Vacuous("an environment variable limits what is read")
    early = {_posix(event) for event in opened if event["n"] < first["n"]}
    late = {str(PurePosixPath(_posix(event)).parent) for event in opened if event["n"] >= first["n"]}
    made = _made(trace)
    folders: dict[tuple[str, str], list[str]] = {}
    for event in trace.events("file_left", role=None, after=True):
        path = PurePosixPath(_posix(event))
        if (str(path) in made and str(path) not in early) or LATER.search(path.stem):
            continue
        folders.setdefault((str(path.parent), path.suffix), []).append(str(path))
    found, judged = [], False
    for (folder, suffix), paths in sorted(folders.items()):
        unread = [path for path in paths if path not in early]
        if folder in late or len(unread) == len(paths) or len(paths) < 2:
            continue
        judged = True
        # A test set may lie beside the rest; a slice left over from debugging leaves most of the folder.
        if 2 * len(unread) > len(paths):
            found.append((folder, suffix, len(unread), len(paths)))
    if not judged:
        raise Vacuous("no folder below the workdir was read as a whole before the first step")
    if not found:
        return []
    counts = {"unread": sum(item[2] for item in found), "files": sum(item[3] for item in found)}
    return [
        Finding(
            "files-read",
            "recordings",
            "warning",
            "the trainer reads a few files of a folder and leaves most of the same kind unread",
            counts,
            "a slice left over from debugging, a pattern that misses some names, or a limit nobody set on purpose",
            "read every recording, and log how many of how many were used",
        )
    ]


def _limits(event: Mapping[str, Any]) -> bool:
    """Return whether a variable that is set, and that no framework asked for, is called like a limit of the data."""
    asked_by = str(event["by"]).partition(".")[0]
    return bool(event["set"] and SUBSET_SWITCH.search(event["name"])) and asked_by not in FRAMEWORKS


def _made(trace: Trace) -> set[str]:
    """Return the files that the trainer wrote itself."""
    written = [event["path"] for event in trace.events("file_open", mode="write", role=None, after=True)]
    for event in trace.events("checkpoint_write", role=None, after=True):
        written += [event["path"], event.get("final")]
    written += [event["to"] for event in trace.events("rename", role=None, after=True)]
    return {str(path).replace("\\", "/") for path in written if path}


def _posix(event: Mapping[str, Any]) -> str:
    return str(event["path"]).replace("\\", "/")


CHECKS: tuple[Check, ...] = (
    Check(
        "inputs-alive",
        "What the model trains on is not empty",
        "reading",
        judge_constant,
        proves=(
            "Inputs of training calls are not zero everywhere; windows of zeros and channels flat throughout are "
            "reported."
        ),
        faults=("unreadable files become zeros", "NaN of a dead channel painted over", "signal multiplied by zero"),
        limits=(
            "Windows of zeros and flat channels occur in real recordings: they warn. Rows of a few numbers, and "
            "states, masks and second signals that are zero beside others, are left alone, as are rows that were alive "
            "when the loader delivered them."
        ),
    ),
    Check(
        "inputs-finite",
        "The model is given finite numbers",
        "reading",
        judge_finite,
        proves="No model call turns NaN or infinity in its input into such in its output.",
        faults=("division by a deviation of zero", "gaps in recordings", "unreadable files replaced"),
        limits="Models that handle missing values themselves return finite numbers, and pass.",
    ),
    Check(
        "input-scale",
        "Inputs have a size that a network can use",
        "reading",
        judge_scale,
        proves="The inputs' root mean square is above 1e-4: no signal left in volts. Validation's is not ten times "
        "that of training, or a tenth.",
        faults=(
            "conversion from volts left out",
            "standardised by a wrong deviation",
            "standardised in training only",
            "noise of the wrong unit drowns the signal",
        ),
        limits="A warning: a first layer may normalise.",
    ),
    Check(
        "samples-whole",
        "Each row of the model's input is one sample of the batch",
        "batch",
        judge_rows_kept,
        proves="An input with exactly the numbers of the batch has them in the same rows.",
        faults=("view or reshape instead of permute",),
        limits="Vacuous where the trainer changes the shape of what the loader delivers.",
    ),
    Check(
        "files-read",
        "Recordings of a folder are read, not a few of them",
        "reading",
        judge_files,
        proves="In folders that are read before the first step, most files of the same kind are read.",
        faults=("debugging slice left in", "file pattern too narrow"),
        limits=(
            "A warning; a smaller part may be a test set. Folders read lazily and runs with a declared limit in the "
            "environment are not judged. Files that the trainer wrote itself, and those named for a test, do not count."
        ),
    ),
)
