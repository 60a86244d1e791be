"""Smoke tests as pytest sees them: one collector per target, one item per check."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from pytest_brainbrr.results import Finding, Outcome, Report
from pytest_brainbrr.targets import EXPECTED_FAILURE, Target, expected_failure

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
        self.told = False
        """Whether an error of the runs was shown already."""

    @classmethod
    def build(
        cls, session: pytest.Session, target: Target, checks: tuple[str, ...], judge: Callable[[Target], Report]
    ) -> "SmokeTarget":
        """Make the collector below the session, with an id no file can have."""
        node: SmokeTarget = cls.from_parent(
            session, name=target.name, nodeid=f"{ROOT}::{target.name}", target=target, checks=checks, judge=judge
        )
        for mark in target.marks:
            node.add_marker(mark)
        if session.config.pluginmanager.hasplugin("timeout") and session.config.getoption("timeout", None) is None:
            # The ini file limits tests; the first check of a target makes all its runs, and those have --smoke-timeout.
            node.add_marker(pytest.mark.timeout(0), append=False)
        return node

    def collect(self) -> Iterator["SmokeItem"]:
        """Yield one item per check."""
        for check in self.checks:
            yield SmokeItem.from_parent(self, name=check)


class SmokeItem(pytest.Item):
    """One check of one trainer."""

    parent: SmokeTarget
    outcome: Outcome | None = None

    def expect_failure(self) -> None:
        """Make a failure declared for this check, by its target or by a mark of its own, an expected one.

        Raises:
            ValueError: a mark that names no check, or gives no reason.
        """
        declared = dict(self.target.expected_failures)
        for mark in self.own_markers:
            if mark.name == EXPECTED_FAILURE:
                check, reason = expected_failure(mark)
                if check not in {None, self.name}:
                    message = f"{self.nodeid}: {EXPECTED_FAILURE} names another check, {check!r}"
                    raise ValueError(message)
                declared[self.name] = reason
        if self.name in declared:
            self.parent.target = replace(self.target, expected_failures=declared)
            self.add_marker(pytest.mark.xfail(reason=declared[self.name], strict=True))

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
        if isinstance(excinfo.value, OSError):
            return f"the runs of {self.target.name!r} could not be made: {excinfo.value} (--smoke-workdir)"
        # A broken run breaks every check of its target: no hundred tracebacks.
        if self.parent.told:
            return f"the runs of {self.target.name!r} could not be made ({excinfo.typename}): see the first check"
        self.parent.told = True
        return super().repr_failure(excinfo, "native")

    def reportinfo(self) -> tuple[Any, None, str]:
        """Name the item by its id."""
        return self.path, None, self.nodeid
