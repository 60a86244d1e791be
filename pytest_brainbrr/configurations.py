"""What a configuration may say, and by which names: shared by those who record it and the check. Imports no torch."""

import re
from collections.abc import Mapping
from typing import Any

NAMES: Mapping[str, frozenset[str]] = {
    "rate": frozenset({"lr", "learning_rate", "base_lr", "initial_lr", "init_lr", "lrate", "lr0"}),
    "decay": frozenset({"weight_decay", "wd"}),
    "dropout": frozenset({"dropout", "dropout_p", "drop_rate", "dropout_rate", "dropout_prob", "drop_prob"}),
    "batch": frozenset({"batch_size", "train_batch_size", "training_batch_size", "batch", "bs"}),
    "clip": frozenset(
        {
            "grad_clip", "gradient_clip", "clip_grad", "clip_grad_norm", "max_grad_norm", "grad_clip_norm", "clip_norm",
            "gradient_clip_val", "gradient_clip_norm", "grad_norm_clip",
        }
    ),
    "momentum": frozenset({"momentum", "sgd_momentum"}),
    "betas": frozenset({"betas", "adam_betas"}),
    "smoothing": frozenset({"label_smoothing"}),
    "accumulation": frozenset(
        {
            "accumulation", "accumulate", "grad_accum", "accumulation_steps", "gradient_accumulation_steps",
            "accum_steps", "grad_accum_steps", "accumulate_grad_batches", "grad_accumulation", "gradient_accumulation",
        }
    ),
    "optimizer": frozenset({"optimizer", "optim", "optimizer_name", "optimizer_type"}),
}  # fmt: skip
"""What is said -> the names under which it is said."""

OTHERS = frozenset(
    {
        "epochs", "num_epochs", "max_epochs", "seed", "steps", "max_steps", "warmup_steps", "num_workers", "workers",
        "patience", "device", "hidden_size", "num_layers", "eval_batch_size", "val_batch_size", "test_batch_size",
    }
)  # fmt: skip
"""Further names that tell a configuration from other mappings."""

MOST_VALUES, DEEPEST, LONGEST, LONGEST_LIST = 400, 5, 200, 4
SPELLED = 5
SPELLED_WELL = 9
"""Letters from which one, or two, slips of the pen leave a word that is still known."""


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


BY_LETTERS = {_letters(name): kind for kind, names in NAMES.items() for name in names}
KNOWN = frozenset(BY_LETTERS) | {_letters(name) for name in OTHERS}


def kind_of(key: str) -> tuple[str | None, bool]:
    """Return what a key says, and whether it is misspelt.

    >>> kind_of("learning-rate"), kind_of("weigth_decay"), kind_of("hidden"), kind_of("batch_size")
    (('rate', False), ('decay', True), (None, False), ('batch', False))
    """
    letters = _letters(key)
    if letters in BY_LETTERS:
        return BY_LETTERS[letters], False
    several = letters.rstrip("s") in {name.rstrip("s") for name in BY_LETTERS}
    if letters in KNOWN or several or not letters.isalpha() or len(letters) < SPELLED:
        return None, False
    found = {
        kind
        for name, kind in BY_LETTERS.items()
        if len(name) >= SPELLED and _slips(letters, name) <= (2 if len(name) >= SPELLED_WELL else 1)
    }
    return (next(iter(found)), True) if len(found) == 1 else (None, False)


def _slips(one: str, other: str) -> int:
    """Return how many letters were left out, added, replaced, or exchanged with their neighbor.

    >>> _slips("weigth", "weight"), _slips("batchsze", "batchsize"), _slips("decay", "delay")
    (1, 1, 1)
    """
    if abs(len(one) - len(other)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        following = [i]
        for j, wanted in enumerate(other, 1):
            least = min(row[j] + 1, following[j - 1] + 1, row[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                least = min(least, before[j - 2] + 1)
            following.append(least)
        before, row = row, following
    return row[-1]


def known_keys(mapping: Mapping[Any, Any]) -> int:
    """Return how many keys of a mapping are names that configurations have."""
    return sum(_letters(key) in KNOWN for key in mapping if isinstance(key, str))


def plain_values(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Return path -> value of all numbers, flags, words and short lists of numbers in nested mappings.

    >>> plain_values({"optim": {"lr": 0.1, "betas": [0.9, 0.99]}, "model": object()})
    {'optim.lr': 0.1, 'optim.betas': [0.9, 0.99]}
    """
    found: dict[str, Any] = {}
    _collect(tree, "", found, DEEPEST)
    return found


def _collect(tree: Mapping[Any, Any], prefix: str, found: dict[str, Any], deep: int) -> None:
    for key, value in list(tree.items()):
        if len(found) >= MOST_VALUES or not isinstance(key, str):
            continue
        path = f"{prefix}{key}"
        if isinstance(value, str):
            found[path] = value[:LONGEST]
        elif value is None or isinstance(value, bool | int | float):
            found[path] = value
        elif isinstance(value, list | tuple) and len(value) <= LONGEST_LIST:
            if value and all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
                found[path] = list(value)
        elif isinstance(value, Mapping) and deep:
            _collect(value, f"{path}.", found, deep - 1)
