"""Every healthy trainer of the zoo, watched and unwatched: it leaves the same bytes behind and prints the same lines."""

import dataclasses

import pytest
from pytest_brainbrr.runner import Runs

from zoo import HEALTHY


@pytest.mark.slow
@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_watching_changes_nothing(case, tmp_path):
    target = case.target()
    runs = Runs(dataclasses.replace(target, marks=(), seeded=True), tmp_path, 6)
    runs.make({"straight", "repeat", "unwatched"})
    if runs.traces["straight"].exit["how"] == "stopped":
        pytest.skip("nobody stops it where it is not watched")
    straight, repeat, unwatched = (left(tmp_path / plan) for plan in ("straight", "repeat", "unwatched"))
    assert straight.keys() == unwatched.keys()
    steady = {name for name in straight if straight[name] == repeat.get(name)}
    if not steady and not target.seeded:
        pytest.skip("it never leaves the same behind, and says so")
    assert steady, "no file is the same twice: nothing to compare"
    assert {name for name in steady if straight[name] != unwatched[name]} == set()


def left(folder):
    """Return name -> bytes of what a run wrote, its console included, without the folder's own name."""
    files = {
        str(path.relative_to(folder / "work")): path.read_bytes()
        for path in (folder / "work").rglob("*")
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }
    console = (folder / "console.txt").read_bytes().replace(str(folder).encode(), b"")
    return {**files, "console": console}
