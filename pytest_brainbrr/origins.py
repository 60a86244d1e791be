"""Which loader batch a model call can be made of, and which it cannot."""

import math
from collections.abc import Mapping
from typing import Any


def forget_stale_batches(events: list[dict[str, Any]]) -> None:
    """Take the loader's place from calls that its last batch cannot have fed.

    Data that no watched loader delivers (tensors indexed by hand, a cache, a simulator) would else pass for the
    batch that some loader delivered last: a validation's, when training goes on after it. Some engines fetch one
    batch ahead, so a pass that is over may still feed a call, but of the kind its loader fed before, until the next
    step only, and each model with one input. And an input that comes back unchanged while batches go by is made of
    none of them.
    """
    over: set[tuple[Any, ...]] = set()
    loader_of: dict[tuple[Any, ...], Any] = {}
    kinds: dict[tuple[Any, ...], set[tuple[Any, ...]]] = {}
    fed: dict[tuple[Any, ...], int] = {}
    given_to: dict[tuple[Any, ...], Any] = {}
    origins: dict[tuple[Any, ...], set[tuple[Any, ...]]] = {}
    delivered: set[tuple[Any, ...]] = set()
    resting = []
    for event in events:
        pid = event.get("pid")
        if event["kind"] == "epoch":
            loader_of[pid, event["id"]] = event["loader"]
            if event["action"] in {"end", "dropped"}:
                over.add((pid, event["id"]))
        elif event["kind"] == "batch":
            delivered |= {(part.get("digest"), tuple(part["shape"])) for part in event["tensors"]}
        elif event["kind"] == "forward" and event.get("loader"):
            this, place = (pid, event["loader"][0]), (pid, *event["loader"])
            known = kinds.setdefault((pid, loader_of.get(this, this)), set())
            kind = (event["phase"] == "eval", event["grad_enabled"], event["training"])
            given = _largest(event)
            late = fed.get(place, event["step"]) != event["step"] or (known and kind not in known)
            if this in over and (late or given_to.get((place, event["model"]), given) != given):
                event["loader"] = None
                continue
            known.add(kind)
            fed.setdefault(place, event["step"])
            given_to.setdefault((place, event["model"]), given)
            if event["phase"] == "eval" and given is not None:
                origins.setdefault(given, set()).add(place)
                resting.append((event, given))
    for event, given in resting:
        if len(origins[given]) > 1 and given not in delivered:
            event["loader"] = None


def _largest(call: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return digest and shape of the largest input of a call, None if it may be equal to another by chance."""
    inputs = [fact for fact in call.get("inputs") or [] if fact.get("digest") is not None and len(fact["shape"]) > 1]
    if not inputs:
        return None
    fact = max(inputs, key=lambda one: math.prod(one["shape"]))
    return None if fact.get("constant") else (fact["digest"], tuple(fact["shape"]))
