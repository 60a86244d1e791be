"""A mirrored folder: read as it is, written without touching the original."""

import hashlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pytest_brainbrr.mirror import mirror

WRITES = {
    "overwrite": "open('runs/last.txt', 'w').write('new')",
    "append": "open('runs/last.txt', 'a').write('new')",
    "update in place": "f = open('runs/last.txt', 'r+'); f.write('new')",
    "by pathlib": "__import__('pathlib').Path('runs/deep/best.txt').write_text('new')",
    "a new file": "open('runs/deep/more.txt', 'x').write('new')",
    "a new folder": "os.makedirs('runs/deep/er')",
    "rename over": "open('t', 'w').write('new'); os.replace('t', 'runs/last.txt')",
    "rename away": "os.rename('runs/last.txt', 'runs/old.txt')",
    "remove": "os.remove('runs/last.txt')",
    "remove a tree": "shutil.rmtree('runs')",
    "remove an inner tree": "shutil.rmtree('runs/deep')",
    "truncate": "os.truncate('runs/last.txt', 1)",
    "low level": "os.write(os.open('runs/last.txt', os.O_WRONLY | os.O_TRUNC), b'new')",
    "by absolute path": "open(os.path.abspath('runs/last.txt'), 'w').write('new')",
    "change the mode": "os.chmod('runs/last.txt', 0o600)",
    "a database": "import sqlite3; c = sqlite3.connect('runs/empty.db'); c.execute('create table t (x)'); c.commit()",
    "move a folder": "shutil.move('runs', 'old_runs')",
}


def state(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): f"{path.stat().st_mode} "
        + (hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else "")
        for place in sorted(folder.rglob("*"))
        for path in (place, *(place.rglob("*") if place.is_symlink() and place.is_dir() else ()))
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "runs" / "deep").mkdir(parents=True)
    (project / "runs" / "last.txt").write_text("precious")
    (project / "runs" / "deep" / "best.txt").write_text("dear")
    (project / "runs" / "empty.db").touch()
    (project / "train.py").write_text("print(1)")
    return project


@pytest.mark.parametrize("write", WRITES)
def test_no_write_reaches_the_original(project: Path, tmp_path: Path, write: str) -> None:
    work = tmp_path / "work"
    work.mkdir()
    mirror(project, work, skip=work)
    before = state(project)
    program = (
        "import os, shutil, sys\nfrom pathlib import Path\nfrom pytest_brainbrr.mirror import WriteGuard\n"
        "WriteGuard(Path.cwd()).install()\n"
        "assert open('runs/last.txt').read() == 'precious' and open('runs/deep/best.txt').read() == 'dear'\n"
        f"{WRITES[write]}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert state(project) == before
    assert state(work) != before, "the write took place in the mirror"


def test_content_is_kept_where_it_is_still_wanted(project: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    mirror(project, work, skip=work)
    program = (
        "from pathlib import Path\nfrom pytest_brainbrr.mirror import WriteGuard\nWriteGuard(Path.cwd()).install()\n"
        "open('runs/last.txt', 'a').write('!')\nassert open('runs/last.txt').read() == 'precious!'\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=work, check=True)
    assert (project / "runs" / "last.txt").read_text() == "precious"


def test_the_run_may_live_inside_the_project(project: Path) -> None:
    work = project / "smoke" / "straight" / "work"
    work.mkdir(parents=True)
    (project / "smoke" / "notes.txt").write_text("kept")
    mirror(project, work, skip=project / "smoke" / "straight")
    assert (work / "train.py").read_text() == "print(1)"
    assert (work / "smoke" / "notes.txt").read_text() == "kept"
    assert not (work / "smoke" / "straight").exists()


def test_processes_that_the_script_starts_are_guarded_and_wait_for_each_other(project: Path, tmp_path: Path) -> None:
    """Ranks open one folder of links at once: one of them turns it into a folder of its own."""
    home = tmp_path / "run"
    work = home / "work"
    work.mkdir(parents=True)
    for number in range(200):
        (project / "runs" / f"{number}.txt").touch()
    mirror(project, work, skip=home)
    before = state(project)
    program = """
        import multiprocessing, os, sys, threading
        from pytest_brainbrr import ranks
        from pytest_brainbrr.spec import Spec

        def write(rank):
            for name in ("last.txt", f"own-{rank}.txt"):
                open(f"runs/{name}", "a").write("new")

        def rank(number):
            threads = [threading.Thread(target=write, args=(f"{number}-{part}",)) for part in range(4)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]

        if __name__ == "__main__":
            ranks.announce(Spec("x", "straight", os.getcwd(), "", None, ["train.py"], watched=False))
            with multiprocessing.get_context("spawn").Pool(4) as pool:
                pool.map(rank, range(8), chunksize=1)
    """
    (work / "ranks.py").write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, "ranks.py"], cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert state(project) == before
    assert (work / "runs" / "last.txt").read_text() == "precious" + 32 * "new"
    assert len(list((work / "runs").glob("own-*"))) == 32


def test_a_smoke_run_of_a_script_leaves_the_project_as_it_was(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        train="""
        import torch
        from pathlib import Path

        net = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(3):
            optimizer.zero_grad()
            net(torch.randn(4, 2)).square().mean().backward()
            optimizer.step()
            torch.save(net.state_dict(), "runs/last.pt")
            Path("runs/log.txt").open("a").write("step")
        """
    )
    runs = pytester.mkdir("runs")
    (runs / "last.pt").write_text("precious")
    (runs / "log.txt").write_text("dear")
    result = pytester.runpytest_subprocess("--smoke", "--smoke-script=train.py", "-k", "run-finishes or steps-taken")
    result.assert_outcomes(passed=2)
    assert {path.name: path.read_text() for path in runs.iterdir()} == {"last.pt": "precious", "log.txt": "dear"}
