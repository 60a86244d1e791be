"""What a check is: its id, help and documentation, which runs it needs, and how its outcome is reached.

A check is a function ``judge(traces, target)`` that yields findings. ``traces`` maps the name of each plan in ``needs``
(and of those in ``wants`` that could be run) to its :class:`~pytest_brainbrr.trace.Trace`. It raises :class:`Vacuous`
with the missing fact when it has nothing to judge; an outcome without findings is then never called passed.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from pytest_brainbrr.results import Finding, Outcome, Status
from pytest_brainbrr.targets import Target
from pytest_brainbrr.trace import Trace

Judge = Callable[[Mapping[str, Trace], Target], Iterable[Finding]]

PLANS: Mapping[str, str] = {
    "straight": "the target as it is, seed 0, normal data; every other run is compared with it",
    "cut": "passes over loaders end after two steps, so that validations and checkpoints come within the steps; made "
    "where the straight run did not get to the end of a pass",
    "repeat": "the same again, in a fresh folder and process: what differs is noise",
    "reseeded": "the same with another seed",
    "stopped": "stopped from outside halfway, with a checkpoint on disk (run with fewer steps, if none is by then)",
    "resumed": "continued from the checkpoint of `stopped`, in a fresh process, to the same number of steps",
    "reload": "a fresh process resumes from the last checkpoint of `stopped` and is stopped before it trains",
    "probe": "the same, then the model is called from outside: batch independence, look-ahead, evaluation twice, ...",
    "no_positives": "data without a single positive label",
    "non_finite": "data with NaN or infinity in the signal",
    "canary": "recordings with a tone per channel and known bursts, two steps; where a check of the first run "
    "alone finds nothing, it is asked again about this one",
    "relabeled": "labels are changed where loaders hand them out, those of the first and third batch left alone",
    "padded": "labels are changed where the signal beside them is padding, two steps",
    "touched": "a held-out file is changed after `prepare`; training must not change",
    "unwatched": "the same without observers, to prove that watching changes nothing",
}
"""Name of each plan -> what is run."""


ITSELF = "this check itself failed"
"""How the reason of a check that raised begins."""


def broke_off(trace: Trace | None) -> str | None:
    """Say, of a run that ended badly before it took a step, how it ended; None of any other."""
    if trace is None or trace.first("exit") is None or trace.finished or trace.steps or trace.exit.get("steps"):
        return None
    end = trace.exit
    said = str(end.get("message") or "").strip()
    lines = [line.strip() for line in end.get("last_lines") or [] if line.strip()]
    if end["how"] == "system_exit":
        name = f"exit status {end['code']}"
        said = lines[-1] if lines and (not said or said.lstrip("-").isdigit()) else said
    else:
        name = end.get("exception") or end["how"]
    text = f"{name}: {said.splitlines()[0]}" if said else name
    return f"the run broke off before its first optimizer step ({text[:200]})"


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
    cut: bool = False
    """Whether the ``cut`` run, where it was made, is judged as well: nothing here depends on how long a pass is."""
    proves: str = ""
    faults: tuple[str, ...] = ()
    """Faults it catches, in words."""
    limits: str = ""

    @property
    def plans(self) -> tuple[str, ...]:
        """Every plan the check can use."""
        return (*self.needs, *self.wants, *(("cut",) if self.cut else ()))

    def run(self, traces: Mapping[str, Trace], target: Target, missing: Mapping[str, str] | None = None) -> Outcome:
        """Judge and return the outcome.

        Args:
            traces: Plan -> trace, for the plans that were run.
            target: The target, for the facts it declares.
            missing: Plan -> reason, for the plans that could not be run.
        """
        outcome = self._run(traces, target, missing or {})
        broken = broke_off(traces.get("straight"))
        if broken is not None and outcome.status == "vacuous" and not outcome.reason.startswith(ITSELF):
            # What happened first, not the many things that were never seen because of it.
            outcome = replace(outcome, reason=broken)
        return replace(outcome, expected_failure=target.expected_failures.get(self.id))

    def _run(self, traces: Mapping[str, Trace], target: Target, missing: Mapping[str, str]) -> Outcome:
        for plan in self.needs:
            if plan not in traces:
                return Outcome(self.id, "vacuous", reason=f"run {plan!r}: {missing.get(plan, 'was not run')}")
        available = {plan: traces[plan] for plan in (*self.needs, *self.wants) if plan in traces}
        if "straight" in available and any(trace.process.get("cut") for trace in available.values()):
            # Runs whose loaders were made shorter are compared with one that had the same.
            available["straight"] = traces.get("cut", available["straight"])
        outcome = self._judged(available, target)
        for plan in self._again:
            if plan not in traces:
                continue
            again = self._judged({"straight": traces[plan]}, target)
            if not outcome.findings and (again.findings or outcome.status == "vacuous"):
                found = tuple(replace(one, evidence={**one.evidence, "run": plan}) for one in again.findings)
                outcome = replace(again, findings=found) if again.status != "vacuous" else outcome
        return outcome

    @property
    def _again(self) -> tuple[str, ...]:
        """Return runs that may show what the straight one lacks: what follows a pass; events, padding, patients."""
        if self.needs != ("straight",):
            return ()
        return ("cut", "canary") if self.cut else ("canary",)

    def _judged(self, traces: Mapping[str, Trace], target: Target) -> Outcome:
        began = time.perf_counter()
        findings: list[Finding] = []
        try:
            findings.extend(self.judge(traces, target))
        except Vacuous as verdict:
            if not findings:  # what was found before the facts ran out stands
                return Outcome(self.id, "vacuous", reason=str(verdict) or "nothing to judge")
        except Exception as error:  # noqa: BLE001 (a flaw of ours is no fault of the trainer's, and no pass)
            reason = f"{ITSELF} ({type(error).__name__}: {error}): please report it"
            return Outcome(self.id, "vacuous", reason=reason)
        failed = any(finding.severity == "error" for finding in findings)
        status: Status = "failed" if failed else "warned" if findings else "passed"
        return Outcome(self.id, status, findings=tuple(findings), seconds=time.perf_counter() - began)
