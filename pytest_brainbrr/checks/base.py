"""What a check is: its id, help and documentation, which runs it needs, and how its outcome is reached.

A check is a function ``judge(traces, target)`` that yields findings. ``traces`` maps the name of each plan in ``needs``
(and of those in ``wants`` that could be run) to its :class:`~pytest_brainbrr.trace.Trace`. It raises :class:`Vacuous`
with the missing fact when it has nothing to judge; an outcome without findings is then never called passed.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pytest_brainbrr.results import Finding, Outcome
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

Judge = Callable[[Mapping[str, Trace], Target], Iterable[Finding]]

PLANS: Mapping[str, str] = {
    "straight": "the target as it is, seed 0, normal data; every other run is compared with it",
    "repeat": "the same again, in a fresh folder and process: what differs is noise",
    "reseeded": "the same with another seed",
    "stopped": "stopped from outside halfway, with a checkpoint on disk (run with fewer steps, if none is by then)",
    "resumed": "continued from the checkpoint of `stopped`, in a fresh process, to the same number of steps",
    "reload": "a fresh process resumes from the last checkpoint of `stopped` and is stopped before it trains",
    "probe": "the same, then the model is called from outside: batch independence, look-ahead, evaluation twice, ...",
    "no_positives": "data without a single positive label",
    "non_finite": "data with NaN or infinity in the signal",
    "canary": "recordings with a tone per channel and known bursts, three steps; where a check of the first run "
    "alone finds nothing, it is asked again about this one",
    "relabeled": "labels are changed where loaders hand them out, up to the first validation",
    "padded": "labels are changed where the signal beside them is padding, two steps",
    "touched": "a held-out file is changed after `prepare`; training must not change",
    "unwatched": "the same without observers, to prove that watching changes nothing",
}
"""Name of each plan -> what is run."""


ITSELF = "this check itself failed"
"""How the reason of a check that raised begins."""


class Vacuous(Exception):  # noqa: N818 (a verdict, not an error)
    """Raised by a check that has nothing to judge; the text names the missing fact."""


@dataclass(frozen=True)
class Check:
    """One row of the table."""

    id: str
    title: str
    """One sentence: what holds when the check passes."""
    group: str
    judge: Judge
    needs: tuple[str, ...] = ("straight",)
    """Plans without which there is nothing to judge."""
    wants: tuple[str, ...] = ()
    """Plans that sharpen the verdict when they could be run."""
    proves: str = ""
    faults: tuple[str, ...] = ()
    """Faults it catches, in words."""
    limits: str = ""

    def run(self, traces: Mapping[str, Trace], target: Target, missing: Mapping[str, str] | None = None) -> Outcome:
        """Judge and return the outcome.

        Args:
            traces: Plan -> trace, for the plans that were run.
            target: The target, for the facts it declares.
            missing: Plan -> reason, for the plans that could not be run.
        """
        expected = target.expected_failures.get(self.id)
        for plan in self.needs:
            if plan not in traces:
                reason = (missing or {}).get(plan, "was not run")
                return Outcome(self.id, "vacuous", reason=f"run {plan!r}: {reason}", expected_failure=expected)
        available = {plan: traces[plan] for plan in (*self.needs, *self.wants) if plan in traces}
        outcome = self._judge(available, target, expected)
        if outcome.status in {"vacuous", "passed"} and self.needs == ("straight",) and "canary" in traces:
            # Recordings made for it hold what the first files of a corpus may lack: events, padding, several patients.
            again = self._judge({"straight": traces["canary"]}, target, expected)
            if again.findings or outcome.status == "vacuous" != again.status:
                return again
        return outcome

    def _judge(self, available: Mapping[str, Trace], target: Target, expected: str | None) -> Outcome:
        began = time.perf_counter()
        findings: list[Finding] = []
        try:
            findings.extend(self.judge(available, target))
        except Vacuous as verdict:
            if not findings:  # what was found before the facts ran out stands
                return Outcome(self.id, "vacuous", reason=str(verdict) or "nothing to judge", expected_failure=expected)
        except Exception as error:  # noqa: BLE001 (a flaw of ours is no fault of the trainer's, and no pass)
            reason = f"{ITSELF} ({type(error).__name__}: {error}): please report it"
            return Outcome(self.id, "vacuous", reason=reason, expected_failure=expected)
        status = "passed"
        if any(finding.severity == "error" for finding in findings):
            status = "failed"
        elif findings:
            status = "warned"
        seconds = time.perf_counter() - began
        return Outcome(self.id, status, findings=tuple(findings), seconds=seconds, expected_failure=expected)  # type: ignore[arg-type]
