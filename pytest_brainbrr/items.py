"""Smoke tests as pytest sees them: one collector per target, one item per check."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_brainbrr.results import Finding, Outcome, Report
from pytest_brainbrr.targets import Target

ROOT = "smoke"
OUTCOME = "brainbrr_outcome"
"""Attribute of a test report that carries the status of the check."""


class CheckFailedError(AssertionError):
    """A check found errors."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(map(str, findings)))


class SmokeTarget(pytest.Collector):
    """All checks of one trainer, which runs once for all of them."""

    def __init__(self, *, target: Target, checks: tuple[str, ...], judge: Callable[[Target], Report], **kwargs: Any):
        super().__init__(**kwargs)
        self.target = target
        self.checks = checks
        self.judge = judge

    @classmethod
    def build(
        cls, session: pytest.Session, target: Target, checks: tuple[str, ...], judge: Callable[[Target], Report]
    ) -> "SmokeTarget":
        """Make the collector below the session, with an id no file can have."""
        return cls.from_parent(
            session, name=target.name, nodeid=f"{ROOT}::{target.name}", target=target, checks=checks, judge=judge
        )

    def collect(self) -> Iterator["SmokeItem"]:
        """Yield one item per check."""
        for check in self.checks:
            yield SmokeItem.from_parent(self, name=check)


class SmokeItem(pytest.Item):
    """One check of one trainer."""

    parent: SmokeTarget
    outcome: Outcome | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        reason = self.parent.target.expected_failures.get(self.name)
        if reason is not None:
            self.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    @property
    def target(self) -> Target:
        """Return the trainer this item belongs to."""
        return self.parent.target

    def runtest(self) -> None:
        """Run the trainer unless it has run already, and end as the check ended."""
        self.outcome = self.parent.judge(self.target).outcome(self.name)
        if self.outcome.status == "vacuous":
            pytest.skip(f"vacuous: {self.outcome.reason}")
        if self.outcome.status == "failed":
            raise CheckFailedError(self.outcome.findings)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Print findings without a traceback of this plugin."""
        if isinstance(excinfo.value, CheckFailedError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, None, str]:
        """Name the item by its id."""
        return self.path, None, self.nodeid
