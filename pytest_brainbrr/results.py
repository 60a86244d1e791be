"""What a smoke run ends in: findings, one outcome per check, and the report that holds them. Plain data, no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning"]
Status = Literal["passed", "failed", "warned", "vacuous"]


@dataclass(frozen=True)
class Finding:
    """One fault seen by one check.

    ``check`` and ``where`` are stable from run to run (no numbers, paths or step counts); numbers are ``evidence``.
    """

    check: str
    where: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    cause: str = ""
    hint: str = ""

    def __str__(self) -> str:
        told = self.evidence.get("last_lines")
        facts = ", ".join(f"{name}={value}" for name, value in self.evidence.items() if name != "last_lines")
        lines = [f"{self.check}: {self.where}: {self.message}" + (f" [{facts}]" if facts else "")]
        lines += [f"  | {line}" for line in told] if isinstance(told, list | tuple) else []
        lines += [f"  likeliest cause: {self.cause}"] if self.cause else []
        lines += [f"  to mend: {self.hint}"] if self.hint else []
        return "\n".join([*lines, f"  explained in {self.docs}"])

    @property
    def docs(self) -> str:
        """Where the project's documents say what the check proves, and its limits."""
        return f"docs/checks.md#{self.check}"


@dataclass(frozen=True)
class Outcome:
    """How one check ended. ``reason`` says why a check is vacuous: which fact it lacked."""

    check: str
    status: Status
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0
    expected_failure: str | None = None
    """Why this check was declared to fail, if it was."""

    def __post_init__(self) -> None:
        if self.status == "vacuous" and not self.reason:
            message = f"{self.check}: a vacuous outcome names the fact it lacked"
            raise ValueError(message)

    @property
    def counts_as_failure(self) -> bool:
        """Whether this outcome makes the suite red: a failure nobody expected, or an expected one that passed."""
        if self.expected_failure is None:
            return self.status == "failed"
        return self.status == "passed"


class SmokeFailedError(AssertionError):
    """At least one check failed; the message lists the findings."""


@dataclass(frozen=True)
class Report:
    """All outcomes of one target, and the facts of its runs (device, recordings, steps, seconds)."""

    target: str
    outcomes: tuple[Outcome, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return every finding, errors first, in the order of the checks."""
        found = [finding for outcome in self.outcomes for finding in outcome.findings]
        return tuple(sorted(found, key=lambda finding: finding.severity != "error"))

    def outcome(self, check: str) -> Outcome:
        """Return how ``check`` ended.

        Raises:
            KeyError: no check of that name was part of this run.
        """
        for outcome in self.outcomes:
            if outcome.check == check:
                return outcome
        raise KeyError(check)

    def raise_if_failed(self) -> None:
        """Raise unless every check passed, warned, was vacuous, or failed as declared.

        Raises:
            SmokeFailedError: with every finding that counts.
        """
        failed = [outcome for outcome in self.outcomes if outcome.counts_as_failure]
        if not failed:
            return
        lines = []
        for outcome in failed:
            lines += [str(finding) for finding in outcome.findings if finding.severity == "error"]
            if outcome.expected_failure is not None:
                lines.append(f"{outcome.check}: declared to fail ({outcome.expected_failure}) but passed")
        raise SmokeFailedError(f"{self.target}: {len(failed)} checks failed\n" + "\n".join(lines))

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Report":
        """Rebuild a report from :meth:`as_dict`, for instance one that another process sent."""
        outcomes = tuple(
            Outcome(**{**outcome, "findings": tuple(Finding(**finding) for finding in outcome["findings"])})
            for outcome in data["outcomes"]
        )
        return cls(target=data["target"], outcomes=outcomes, facts=data["facts"])
