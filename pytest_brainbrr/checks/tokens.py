"""Token sequences: the next token is the one that is learned, and padding is not."""

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_brainbrr.checks.base import Check, Vacuous
from pytest_brainbrr.checks.feeds import argument, elements, train_feeds
from pytest_brainbrr.results import Finding
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

IGNORED = -100


def _losses(trace: Trace) -> list[dict[str, Any]]:
    return [loss for loss in trace.events("loss") if loss["grad_enabled"] and loss["function"] == "cross_entropy"]


def _batches(trace: Trace) -> list[Mapping[str, Any]]:
    """Return the batches of token sequences that trained.

    Raises:
        Vacuous: there is none.
    """
    batches = {feed.batch["n"]: feed.batch for feed in train_feeds(trace) if feed.batch and feed.batch.get("tokens")}
    if not batches:
        raise Vacuous("no batch of token sequences trained a model")
    if not _losses(trace):
        raise Vacuous("no cross-entropy was called")
    return list(batches.values())


def judge_next(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Follow tokens from the batch to the target of the loss: by how many places it is ahead of the input."""
    trace = traces["straight"]
    targets = {(argument(loss, "target") or {}).get("digest") for loss in _losses(trace)} - {None}
    ahead: set[int] = set()
    for batch in _batches(trace):
        tokens = batch["tokens"]
        before = {pair["of"]: pair["shift"] for pair in tokens["shifts"]}
        read = {pair["to"] for pair in tokens["shifts"]}
        for at, shifts in tokens["targets"].items():
            if at in read and at not in before:
                continue
            moved = [int(shift) for shift, digests in shifts.items() if targets & (set(digests) - {None})]
            if moved and (at in before or len(tokens["targets"]) == 1):
                ahead.add(before.get(at, 0) + min(moved))
    if not ahead:
        raise Vacuous("no target of a cross-entropy could be recognized as the tokens of a batch, moved ahead")
    if 1 in ahead:
        return []
    if min(ahead) > 1:
        text = "the token after the next is learned: labels are moved ahead twice"
        cause = "the collator moves the labels, and so does the model's own loss"
        hint = "hand over labels equal to the tokens where the model moves them itself"
        return [Finding("next-token", "labels", "error", text, {"places_ahead": min(ahead)}, cause, hint)]
    text = "the loss asks for the very tokens that the model reads: it can copy them"
    cause = "the labels are not moved ahead by one token"
    hint = "compare the outputs up to the last but one with the tokens from the second on"
    return [Finding("next-token", "labels", "warning", text, {"places_ahead": 0}, cause, hint)]


def judge_padding(traces: Mapping[str, Trace], target: Target) -> Iterable[Finding]:
    """Look at the labels where the mask says padding: the loss must be told to leave them out."""
    trace = traces["straight"]
    padded = [batch["tokens"]["padding"] for batch in _batches(trace) if batch["tokens"]["padding"]]
    padded = [one for one in padded if one["places"]]
    if not padded:
        raise Vacuous("no batch with a mask of padding and a label per token trained a model")
    rows = max(one["elements"] for one in padded) // 2
    whole = [loss for loss in _losses(trace) if elements(argument(loss, "target") or {"shape": [0]}) >= rows]
    if not whole or any(loss["reduction"] == "none" for loss in whole):
        raise Vacuous("no cross-entropy over all tokens was called that reduces its result itself")
    ignored = {loss["options"].get("ignore_index", IGNORED) for loss in whole}
    values = {value for one in padded for value in one["values"]}
    if len(values) > 1 or values <= ignored:
        return []
    text = "padding is learned: where the mask says padding, the labels are not those that the loss ignores"
    cause = "labels are copied from the padded tokens"
    hint = "set labels to -100 where the attention mask is 0"
    evidence = {"places": sum(one["places"] for one in padded), "label": min(values)}
    return [Finding("padding-ignored", "labels", "warning", text, evidence, cause, hint)]


CHECKS: tuple[Check, ...] = (
    Check(
        "next-token",
        "The next token is the one that is learned",
        "labels",
        judge_next,
        proves="Where the target of a cross-entropy is made of the batch's tokens, it is one place ahead of them.",
        faults=("labels moved ahead by the collator and again by the model", "labels not moved ahead"),
        limits="Tokens that a watched loader delivers. Labels that are the input itself only warn: some models copy on "
        "purpose.",
    ),
    Check(
        "padding-ignored",
        "Padding is left out of the loss",
        "labels",
        judge_padding,
        proves="Where `attention_mask` is 0, `labels` of the same shape hold the index that the loss ignores.",
        faults=("labels of padding not set to -100",),
        limits="Only warns: some train on padding on purpose. Losses that weigh tokens by hand are not judged.",
    ),
)
