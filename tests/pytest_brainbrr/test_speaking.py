"""What a newcomer is told when a script cannot be run, or ends badly."""

import signal
from pathlib import Path

import pytest

from pytest_brainbrr import afterwards
from pytest_brainbrr.afterwards import _last_lines, _last_words
from pytest_brainbrr.child import _outcome
from pytest_brainbrr.mirror import mirror
from pytest_brainbrr.results import Finding


@pytest.mark.parametrize("steps", ["1", "0", "many"])
def test_too_few_steps_are_a_usage_error(pytester: pytest.Pytester, steps: str) -> None:
    result = pytester.runpytest_subprocess("--smoke", "--smoke-steps", steps)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--smoke-steps: got '{steps}', expected an integer of at least 2*"])


def test_a_signal_is_named() -> None:
    assert "SIGKILL: most often the system's answer to a lack of memory" in _last_words(-signal.SIGKILL)
    assert "os._exit" in _last_words(0)


def test_the_console_is_quoted_without_what_a_terminal_would_obey(tmp_path: Path) -> None:
    console = tmp_path / "console.txt"
    console.write_bytes(b"\x1b[2J\x1b[31mred\x1b]0;title\x07\x00\xff\n10%\r20%\nlast\r\n" + b"\n")
    assert _last_lines(console) == ["red\ufffd", "20%", "last"]


def test_the_stacks_of_a_run_that_hangs_are_the_targets(tmp_path: Path) -> None:
    console = tmp_path / "console.txt"
    frames = [
        '"train.py", line 7 in step',
        '"/x/pytest_brainbrr/child.py", line 9 in _call',
        '"<frozen runpy>", line 88 in x',
    ]
    console.write_text("Current thread (most recent call first):\n" + "".join(f"  File {each}\n" for each in frames))
    assert _last_lines(console) == ["Current thread (most recent call first):", '  File "train.py", line 7 in step']


def test_a_console_that_nobody_would_read_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(afterwards, "MAX_CONSOLE", 100)
    monkeypatch.setattr(afterwards, "KEPT_CONSOLE", 10)
    console = tmp_path / "console.txt"
    console.write_text("x" * 100)
    afterwards._shorten(console)
    assert console.read_text() == "x" * 100
    console.write_text("x" * 100 + "the end")
    afterwards._shorten(console)
    assert console.read_text() == "(97 bytes before this are left out)\nxxxthe end"


def test_a_traceback_begins_with_the_targets_first_frame() -> None:
    found = _outcome(lambda: int("x"))
    assert "child.py" not in found["traceback"]
    assert found["traceback"].splitlines()[-1].startswith("ValueError")


def test_a_finding_shows_the_last_lines_as_lines() -> None:
    finding = Finding("run-finishes", "<run>", "error", "it broke", {"code": 1, "last_lines": ["one", "two"]})
    assert str(finding).splitlines()[:3] == ["run-finishes: <run>: it broke [code=1]", "  | one", "  | two"]


def test_code_is_copied_so_that_its_resolved_folder_is_the_mirrors(tmp_path: Path) -> None:
    project, work = tmp_path / "project", tmp_path / "work"
    for folder in ("src/pkg", "data", "venv/lib"):
        (project / folder).mkdir(parents=True)
    work.mkdir()
    for name in ("train.py", "src/pkg/paths.py", "data/x.npy", "venv/lib/own.py", "venv/pyvenv.cfg", "notes.txt"):
        (project / name).touch()
    mirror(project, work, skip=work)
    for name in ("train.py", "src/pkg/paths.py"):
        assert (work / name).resolve() == work / name
    assert all((work / name).is_symlink() for name in ("data", "venv", "notes.txt"))


def test_a_mirror_of_many_files_is_quick(tmp_path: Path) -> None:
    import time

    project, work = tmp_path / "project", tmp_path / "work"
    (project / "windows").mkdir(parents=True)
    work.mkdir()
    for place in range(20_000):
        (project / "windows" / f"{place}.npy").touch()
    began = time.perf_counter()
    mirror(project, work, skip=work)
    assert time.perf_counter() - began < 1.0
    assert (work / "windows").is_symlink()


def test_a_folder_of_the_users_is_not_replaced(tmp_path: Path) -> None:
    import pytest_brainbrr as smoke

    (tmp_path / "straight").mkdir()
    (tmp_path / "straight" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="no folder of a smoke run"):
        smoke.run(smoke.Target("mine", train=print), workdir=tmp_path, checks=["run-finishes"])
    assert (tmp_path / "straight" / "thesis.tex").exists()
