"""Which calls are validation, by the loader that fed them or by the data that comes back."""

from functools import lru_cache
from typing import Any

from pytest_brainbrr.checks.base import Vacuous
from pytest_brainbrr.checks.feeds import telling_forms, telling_rows
from pytest_brainbrr.checks.iterations import Event
from pytest_brainbrr.trace import Trace


@lru_cache(maxsize=16)
def fed_by(trace: Trace) -> dict[int, str]:
    """Return call number -> id of the loader whose batch was delivered last before the call."""
    loaders = {event["id"]: event["loader"] for event in trace.events("epoch")}
    loaders.update({event["epoch"]: event["loader"] for event in trace.events("batch")})
    return {
        call["call"]: loaders[call["loader"][0]]
        for call in trace.events("forward")
        if call.get("loader") and call["loader"][0] in loaders
    }


@lru_cache(maxsize=16)
def held_out(trace: Trace) -> tuple[Event, ...]:
    """Return the calls of validation: fed by loaders whose batches feed no call that trains in training mode.

    Training may take its batches from no loader at all. Calls without gradients in training mode on samples that were
    trained on renew the statistics of normalization, whichever loader brings them.
    """
    fed, training = fed_by(trace), set()
    for call in trace.train_calls:
        if call["training"] and call["call"] in fed:
            training.add(fed[call["call"]])
    if not training:
        training = {fed[call["call"]] for call in trace.train_calls if call["call"] in fed}
    if not trace.train_calls:
        return ()  # without a call that trains there is nothing to hold data out from
    found = [
        call
        for call in trace.events("forward")
        if call["call"] in fed and fed[call["call"]] not in training and not call["raised"]
    ]
    renewing = [call for call in found if call["training"] and not call["grad_enabled"]]
    if renewing:
        known = {row for call in trace.train_calls for row in _rows(call)}
        again = {fed[call["call"]] for call in renewing if not known.isdisjoint(_rows(call))}
        found = [call for call in found if call not in renewing or fed[call["call"]] not in again]
    return tuple(found)


def _rows(call: Event) -> set[str]:
    """Return what tells the samples of a call's inputs apart: their contents, and their forms at any scale."""
    return {row for fact in call["inputs"] for row in (*telling_rows(fact), *telling_forms(fact))}


def validation(trace: Trace) -> list[Event]:
    """Return the calls of validation whose outputs no backward reached.

    Raises:
        Vacuous: there are none.
    """
    found = [call for call in held_out(trace) if call["phase"] != "train"] or by_hand(trace)
    if not found:
        raise Vacuous(
            trace.lost("modules", "loaders")
            or "no validation was seen: no loader of its own fed calls that train nothing, and none was scored at "
            "several steps on equal inputs of its own"
        )
    return found


def by_hand(trace: Trace) -> list[Event]:
    """Return the calls of a validation without a loader: equal inputs at several steps, scored, never trained on."""
    scored = {loss["input_from"] for loss in trace.events("loss") if loss.get("input_from") is not None}
    groups: dict[Any, list[Event]] = {}
    for call in trace.events("forward"):
        if not call.get("loader") and not call["raised"] and call["model"] is not None and (rows := _rows(call)):
            groups.setdefault((call["model"], frozenset(rows)), []).append(call)
    trained = {call["model"] for call in trace.train_calls}
    known = {row for call in trace.train_calls for row in _rows(call)}
    return [
        call
        for (model, rows), group in groups.items()
        if model in trained and len({call["step"] for call in group}) > 1 and known.isdisjoint(rows)
        for call in group
        if call["call"] in scored
    ]
