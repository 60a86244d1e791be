"""What a run was told, by all its configurations: arguments, variables, files, and what a checkpoint keeps of them."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pytest_brainbrr.checks.iterations import finite_number
from pytest_brainbrr.configurations import NAMES, kind_of
from pytest_brainbrr.trace import Trace

SECTIONS = frozenset(
    {"config", "cfg", "conf", "args", "hparams", "hyper_parameters", "hyperparameters", "settings", "options", "params"}
)
USUAL = SECTIONS | {
    "optimizer", "optim", "optimization", "opt", "train", "training", "trainer", "model", "solver", "net", "network",
    "data", "loader", "dataloader", "loss", "experiment", "run", "learning", "regularization",
}  # fmt: skip
"""Sections in which a name means what it means elsewhere."""
NAMING = frozenset({"name", "kind", "type", "class", "_target_", "class_path"})
SCALES = re.compile(r"batch|accum|world|gpu|device|node|rank|scale|factor|mult|ratio|lr|rate|size|decay|gamma|warm")
ENOUGH = 1e-6


@dataclass(frozen=True)
class Said:
    """One thing that a configuration says."""

    kind: str
    value: Any
    place: str
    explicit: bool
    """Told on the command line, or kept in a checkpoint: what a run was asked for, beyond doubt."""
    usual: bool
    """Whether it stands where it speaks of the training as a whole."""
    misspelled: bool = False


def said(trace: Trace) -> list[Said]:
    """Return what is known to have been told, that of the command line first."""
    found = [*_of_words(trace), *_of_checkpoints(trace)]
    for event in trace.events("configuration", after=True):
        spelled = {kind for path in event["values"] for kind, wrong in [kind_of(path.rpartition(".")[2])] if not wrong}
        for path, value in event["values"].items():
            *sections, last = path.split(".")
            kind, misspelled = kind_of(last)
            if last.lower() in NAMING and sections and kind_of(sections[-1])[0] == "optimizer":
                kind, misspelled, value = "optimizer", False, str(value).rpartition(".")[2]  # noqa: PLW2901 (its last word)
            if kind is None or (misspelled and kind in spelled):
                continue
            usual = all(section.lower() in USUAL for section in sections)
            place = path if event["source"] == "file" else f"{event['name']}.{path}"
            found.append(Said(kind, value, place, False, usual, misspelled))
    return found


def _of_words(trace: Trace) -> Iterator[Said]:
    words = [str(word) for word in trace.process.get("argv") or []]
    for word, following in zip(words, [*words, ""][1:], strict=True):
        match = re.fullmatch(r"--?([\w.-]+)(?:=(.*))?", word)
        value = _number(match.group(2) or following) if match else None
        if match is None or value is None:
            continue
        kind = _kind(match.group(1).replace("-", "_").rpartition(".")[2])
        if kind is not None:
            yield Said(kind, value, f"argument {match.group(1)}", True, True)


def _of_checkpoints(trace: Trace) -> Iterator[Said]:
    for checkpoint in trace.checkpoints[:1]:
        for path, value in checkpoint["scalars"].items():
            parts = path.lower().split("/")
            kind = _kind(parts[-1])
            if SECTIONS.intersection(parts[:-1]) and "param_groups" not in parts and finite_number(value) and kind:
                yield Said(kind, float(value), path, True, True)


def _kind(name: str) -> str | None:
    return next((kind for kind, names in NAMES.items() if name in names), None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def the_one(found: list[Said], kind: str) -> Said | None:
    """Return what is said of one thing, None where nothing, or nothing unambiguous, is.

    What the command line says wins over defaults and files.
    """
    own = [one for one in found if one.kind == kind]
    explicit = [one for one in own if one.explicit]
    values = {repr(one.value) for one in explicit or own}
    if len(values) != 1 or not all(one.usual for one in explicit or own):
        return None
    return (explicit or own)[0]


def numbers(trace: Trace, *, scales: bool = False) -> set[float]:
    """Return the numbers above zero that configurations hold; only those that something may be scaled by."""
    return {
        float(value)
        for event in trace.events("configuration", after=True)
        for path, value in event["values"].items()
        if finite_number(value) and value > 0 and (not scales or SCALES.search(path.rpartition(".")[2].lower()))
    }


def in_terms_of(ratio: float, units: set[float]) -> bool:
    """Return whether a ratio, or its square, is one of these numbers, or a product or quotient of two of them.

    >>> in_terms_of(0.125, {32.0, 256.0}), in_terms_of(2.0, {4.0}), in_terms_of(3.3, {32.0, 256.0})
    (True, True, False)
    """
    if not ratio > 0 or not math.isfinite(ratio):
        return False
    known = units | {1.0}
    wanted = {ratio, 1 / ratio, ratio * ratio, 1 / (ratio * ratio)}
    return any(
        abs(one - value) <= ENOUGH * one
        for one in wanted
        for left in known
        for right in known
        for value in (left * right, left / right)
    )


def told_by_surroundings(trace: Trace, *words: str) -> bool:
    """Return whether an environment variable that is set, and was read, speaks of one of these."""
    for event in trace.events("environment_read"):
        if event["set"] and set(words) & set(str(event["name"]).lower().split("_")):
            return True
    return False
