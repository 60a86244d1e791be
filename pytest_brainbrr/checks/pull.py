"""Whether training pulls a model's outputs towards the labels of the batch, whoever wrote the loss."""

from pytest_brainbrr.checks.iterations import warning
from pytest_brainbrr.results import Finding
from pytest_brainbrr.trace import Trace

LEAST = 16
"""Gradients with a sign that must have been seen beside a label."""


def pushed_away(trace: Trace) -> list[Finding] | None:
    """Warn if every gradient at an output goes against the label beside it; None: no such pair was seen.

    Labels are tables of 0 and 1 in the batch, of the output's shape, or numbers of classes. Where another tensor of the
    batch fits as well, one that outputs are pulled towards is enough.
    """
    trained = {call["call"] for call in trace.train_calls}
    models = {call["model"] for call in trace.train_calls}
    sums: dict[tuple[str, str], list[int]] = {}
    for event in trace.events("output_grad"):
        for fact in event.get("pull") or [] if event["call"] in trained else []:
            tally = sums.setdefault((event["at"], fact["at"]), [0, 0, 0])
            tally[0] += fact["towards"]
            tally[1] += fact["away"]
            tally[2] += 1
    if not sums:
        return None
    known = [tally for tally in sums.values() if tally[0] + tally[1] >= LEAST and tally[2] > 1]
    if len(models) != 1 or not any(not tally[0] for tally in known) or any(not tally[1] for tally in known):
        return []
    return [
        warning(
            "loss-direction",
            "<loss>",
            "every gradient pushes an output away from the label beside it",
            cause="a minus is missing in a loss written by hand, or a score to be raised is lowered",
            hint="lower -log(p) of the true class, or 1 - score",
            gradients=max(tally[1] for tally in known),
        )
    ]
