"""The smoke session: registered only with ``--smoke``; collects targets, runs each once, keeps what was seen."""

import contextlib
import errno
import importlib.util
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from pytest_brainbrr import encoders
from pytest_brainbrr.checks.catalogue import CHECKS
from pytest_brainbrr.commands import parse
from pytest_brainbrr.items import OUTCOME, ROOT, SmokeItem, SmokeTarget
from pytest_brainbrr.options import SmokeOptions
from pytest_brainbrr.report.terminal import summary_lines
from pytest_brainbrr.results import Report
from pytest_brainbrr.targets import Target

OF_THE_END = frozenset({"run-finishes", "errors-surface"})
"""Checks that also pass for a program that trains nothing."""


class SmokeSession:
    """Collects the smoke items, runs every target once, and reports."""

    def __init__(self, config: pytest.Config) -> None:
        self.options = SmokeOptions.of(config)
        _refuse_moved_root(config)
        self.wanted = _take_smoke_ids(config)
        self.reports: dict[str, Report] = {}
        self.selected: dict[str, list[str]] = {}
        self.broken: dict[str, tuple[BaseException, TracebackType | None]] = {}
        self.sent: set[str] = set()
        self.from_workers: dict[str, dict[str, Any]] = {}
        self.left_out = 0
        self.problem: str | None = None
        self._workdir: Path | None = None
        if self.options.html is not None and importlib.util.find_spec("jinja2") is None:
            message = "--smoke-html needs jinja2: install brainbrr[report]"
            raise pytest.UsageError(message)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Refuse to start where nothing can be written, or where CUDA was asked for and is missing."""
        if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
            _refuse_unwritable(self.options)
        if self.options.device == "cuda" and not hasattr(session.config, "workerinput"):
            problem = encoders.why_no_cuda()
            if problem is not None:
                message = f"--smoke-device cuda: {problem}"
                raise pytest.UsageError(message)

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        """Leave other tests uncollected: importing them takes longer than many a smoke run, and may fail.

        Folders are entered as ever, for the targets that a conftest in them yields.
        """
        if collection_path.is_dir():
            return None
        self.left_out += any(collection_path.match(pattern) for pattern in config.getini("python_files"))
        return True

    def pytest_report_collectionfinish(self) -> str | None:
        """Say how many files that was."""
        return f"smoke tests only: {self.left_out} test files were not collected" if self.left_out else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Put the smoke items in the place of everything else, before ``-k`` and ``--lf`` select among them."""
        others = items[:]
        items[:] = self._collect(session)
        if others:
            config.hook.pytest_deselected(items=others)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which checks were selected, so that only the runs they need are made, and which are to fail."""
        for item in session.items:
            if isinstance(item, SmokeItem):
                self.selected.setdefault(item.target.name, []).append(item.name)
                with _usage():
                    item.expect_failure()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Keep one target's items on one worker: they share its run."""
        if config.getvalue("dist") == "each":
            return None
        from xdist.scheduler import LoadScopeScheduling

        return LoadScopeScheduling(config, log)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Send the outcome along with the test report: under xdist the controller sees reports only."""
        report: Any = yield
        if isinstance(item, SmokeItem) and call.when == "call" and item.target.name in self.reports:
            sent: dict[str, Any] = {"status": item.outcome.status if item.outcome is not None else "failed"}
            if item.target.name not in self.sent:
                self.sent.add(item.target.name)
                sent["report"] = self.reports[item.target.name].as_dict()
            setattr(report, OUTCOME, json.dumps(sent, default=str))
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        """Name vacuous and warned checks as such."""
        if report.when != "call" or not hasattr(report, OUTCOME) or hasattr(report, "wasxfail"):
            return None
        status = json.loads(getattr(report, OUTCOME))["status"]
        if status == "vacuous":
            return "vacuous", "v", "VACUOUS"
        return ("warned", "w", "WARNED") if status == "warned" else None

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep each target's report, wherever it was made."""
        whole = json.loads(getattr(report, OUTCOME, "{}")).get("report")
        if whole is not None:
            self.from_workers[whole["target"]] = whole

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the JSON report, and do not end green when no check saw anything."""
        if hasattr(session.config, "workerinput"):
            self._tidy(keep=session.testsfailed > 0)
            return
        reports = self._all_reports()
        try:
            self._write_reports(reports)
        except OSError as error:
            self.problem = f"the report could not be written: {error}"
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
        judged = [outcome for report in reports for outcome in report.outcomes if outcome.check not in OF_THE_END]
        if exitstatus == 0 and judged and all(outcome.status == "vacuous" for outcome in judged):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._tidy(keep=session.testsfailed > 0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the one-screen summary."""
        reports = self._all_reports()
        if not reports and not self.broken:
            return
        terminalreporter.section("smoke")
        for text, markup in summary_lines(reports, verbose=terminalreporter.config.get_verbosity() > 0):
            terminalreporter.write_line(text, **markup)
        if self.problem is not None:
            terminalreporter.write_line(self.problem, red=True)
        if self._workdir is not None and self._workdir.exists():
            terminalreporter.write_line(f"what the runs wrote: {self._workdir}")

    def judge(self, target: Target) -> Report:
        """Run a target once and return its report; an error of the run is raised again for every check."""
        from pytest_brainbrr.runner import run

        if target.name in self.broken:
            error, traceback = self.broken[target.name]
            raise error.with_traceback(traceback)  # else it would grow by each check that raises it
        if target.name not in self.reports:
            try:
                with _terminated():
                    self.reports[target.name] = run(
                        target,
                        workdir=self._folder() / target.name,
                        steps=self.options.steps,
                        checks=self.selected.get(target.name),
                        timeout_s=self.options.timeout_s,
                    )
            except BaseException as error:  # also another plugin's time limit: it would end every item's run anew
                self.broken[target.name] = error, error.__traceback__
                raise
        return self.reports[target.name]

    def _collect(self, session: pytest.Session) -> list[pytest.Item]:
        checks = tuple(check.id for check in CHECKS)
        items: list[pytest.Item] = []
        names: set[str] = set()
        for target in self._targets(session.config):
            if target.name in names:
                message = f"two smoke targets are named {target.name!r}: give each its own name"
                raise pytest.UsageError(message)
            names.add(target.name)
            with _usage():
                if target.script is not None:
                    parse(target.script)
                known = {**self.options.expected_failures.get(target.name, {}), **target.declared_failures()}
            unknown = sorted(set(known) - set(checks))
            if unknown:
                message = f"target {target.name!r} expects failures of unknown checks: {', '.join(unknown)}"
                raise pytest.UsageError(message)
            collector = SmokeTarget.build(session, replace(target, expected_failures=known), checks, self.judge)
            found: list[pytest.Item | pytest.Collector] = list(collector.collect())
            items += [item for item in found if isinstance(item, SmokeItem)]
            # Counts them as collected: otherwise pytest says that nothing was selected.
            report = pytest.CollectReport(collector.nodeid, "passed", None, result=found)
            session.config.hook.pytest_collectreport(report=report)
        if self.wanted:
            kept = [item for item in items if any(_below(item.nodeid, wanted) for wanted in self.wanted)]
            missing = [wanted for wanted in self.wanted if not any(_below(item.nodeid, wanted) for item in items)]
            if missing:
                message = f"no such smoke test: {', '.join(missing)}"
                raise pytest.UsageError(message)
            return kept
        return items

    def _targets(self, config: pytest.Config) -> Iterable[Target]:
        with _usage():
            asked = [encoders.script_target(each, self.options.script_arguments) for each in self.options.scripts]
        asked += [encoders.config_target(path, self.options.overrides) for path in self.options.configs]
        if asked:
            return _apart(asked)
        yielded = config.hook.pytest_brainbrr_targets(config=config)
        declared = [target for targets in yielded if targets is not None for target in targets]
        return declared or encoders.encoder_targets(self.options.overrides)

    def _write_reports(self, reports: list[Report]) -> None:
        if self.options.json is not None:
            data = [report.as_dict() for report in reports]
            _write(self.options.json, json.dumps(data, indent=2, default=str) + "\n")
        if self.options.html is not None:
            from pytest_brainbrr.report.html import html_page

            _write(self.options.html, html_page(reports))

    def _all_reports(self) -> list[Report]:
        sent = {name: Report.from_dict(data) for name, data in self.from_workers.items()}
        return list({**sent, **self.reports}.values())

    def _folder(self) -> Path:
        if self._workdir is None:
            if self.options.workdir is not None:
                self._workdir = self.options.workdir
                self._workdir.mkdir(parents=True, exist_ok=True)
            else:
                self._workdir = Path(tempfile.mkdtemp(prefix="brainbrr-smoke-"))
        return self._workdir

    def _tidy(self, *, keep: bool) -> None:
        if self._workdir is not None and self.options.workdir is None and not keep:
            shutil.rmtree(self._workdir, ignore_errors=True)


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """End pytest in good order on SIGTERM while runs are under way, unless somebody listens for it already."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, *_: object) -> None:
        pytest.exit("terminated (SIGTERM); the runs under way were ended", returncode=128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    """Turn what a target refuses into a usage error."""
    try:
        yield
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


def _refuse_unwritable(options: SmokeOptions) -> None:
    """Find out before the runs, not after them, that a report or a run has no place."""
    for name, path in (("workdir", options.workdir), ("json", options.json), ("html", options.html)):
        if path is None:
            continue
        folder = path if name == "workdir" else path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            if name != "workdir" and path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except OSError as error:
            message = f"--smoke-{name}: {path} cannot be written ({error.strerror}): name another place"
            raise pytest.UsageError(message) from error


def _take_smoke_ids(config: pytest.Config) -> list[str]:
    """Take ids such as ``smoke::tcn::shapes`` out of the arguments: no file of that name exists.

    Below the root folder pytest prints them with a path before (``../smoke::tcn::shapes``): that is left off.
    """
    wanted, others = [], []
    for argument in config.args:
        place, colons, rest = argument.partition("::")
        if colons and Path(place).name == ROOT and not Path(place).exists():
            wanted.append(f"{ROOT}::{rest}")
        else:
            others.append(argument)
    if wanted:
        config.args = others or [str(config.rootpath)]
    return wanted


def _refuse_moved_root(config: pytest.Config) -> None:
    """Notice that pytest, which knows no plugin's options yet when it looks for its root, took our path for a test's.

    It would then silently read no configuration, or another project's.
    """
    start, arguments = config.invocation_params.dir, list(config.invocation_params.args)
    if config.option.rootdir is not None:
        return
    inside = config.rootpath == start or config.rootpath in start.parents
    for option in ("--smoke-workdir", "--smoke-json", "--smoke-html", "--smoke-config"):
        if option not in arguments[:-1]:
            continue
        value = start / arguments[arguments.index(option) + 1]
        if not inside or (value.exists() and start not in value.resolve().parents):
            message = f"pytest took {value} for a test path and {config.rootpath} for its root: write {option}={value}"
            raise pytest.UsageError(message)


def _apart(targets: list[Target]) -> list[Target]:
    """Number targets that were asked for by commands and would have one name: ``train``, ``train-2``."""
    counts: dict[str, int] = {}
    found = []
    for target in targets:
        counts[target.name] = counts.get(target.name, 0) + 1
        number = counts[target.name]
        found.append(target if number == 1 else replace(target, name=f"{target.name}-{number}"))
    return found


def _below(nodeid: str, wanted: str) -> bool:
    return nodeid == wanted or nodeid.startswith(f"{wanted}::")


def _write(path: Path, text: str) -> None:
    """Write a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
