"""The plugin's pieces as fixtures, for tests of one's own."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_brainbrr.results import Report
    from pytest_brainbrr.targets import Target


@pytest.fixture
def smoke_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Switch brainbrr's smoke mode on for this test, and undo it afterwards.

    Call it with ``limit_files=N`` to use the first N recordings of each split only.
    """

    def switch_on(*, limit_files: int | None = None) -> None:
        monkeypatch.setenv("BGB_SMOKE_TEST", "1")
        if limit_files is not None:
            monkeypatch.setenv("BGB_LIMIT_FILES", str(limit_files))

    return switch_on


@pytest.fixture(scope="session")
def smoke_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a freshly written demo corpus (EDF files in TUSZ layout)."""
    from brainbrr.cli import main

    folder = tmp_path_factory.mktemp("corpus") / "demo"
    with pytest.raises(SystemExit) as stop:
        main(["demo-corpus", str(folder)])
    assert stop.value.code == 0
    return folder


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> "Callable[..., Report]":
    """Run a target under watch, once per session and target name, and return its report.

    ``smoke_run(Target("mine", train=train), steps=6)``; the same name gives the same report again.
    """
    from pytest_brainbrr.runner import run

    reports: dict[str, Report] = {}

    def run_once(target: "Target", *, steps: int = 6) -> "Report":
        if target.name not in reports:
            workdir = tmp_path_factory.mktemp(target.name)
            reports[target.name] = run(target, workdir=workdir, steps=steps)
        return reports[target.name]

    return run_once
