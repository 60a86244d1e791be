"""Passes that are longer than a smoke run: they are cut short where nothing else shows what comes after them."""

from functools import partial
from pathlib import Path

import pytest
import small_trainers as trainers
import torch
from torch.utils.data import DataLoader, TensorDataset
from watching_help import watched

import pytest_brainbrr as smoke
from pytest_brainbrr import runner
from pytest_brainbrr.cutting import OTHERS, Cutting
from pytest_brainbrr.observers import install
from pytest_brainbrr.passes import short_passes, stopped_early
from pytest_brainbrr.runner import Runs


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def made(train: object, folder: Path) -> Runs:
    runs = Runs(smoke.Target("t", train=train), folder, 4)  # type: ignore[arg-type]
    runs.make({"straight", "cut"})
    return runs


def test_what_follows_a_long_pass_is_seen_in_the_cut_run(tmp_path: Path) -> None:
    runs = made(trainers.long_passes, tmp_path)
    straight, cut = runs.traces["straight"], runs.traces["cut"]
    assert straight.checkpoints == []
    assert stopped_early(straight)
    assert [event["final"] for event in cut.checkpoints] == ["0.pt", "1.pt", "2.pt"]
    assert [(event["batches"], event["step"]) for event in cut.events("epoch", action="cut")] == [
        (2, 2),
        (OTHERS, 2),
        (2, 4),
        (OTHERS, 4),
        (2, 6),
        (OTHERS, 6),
    ]
    lines = cut.exit["last_lines"]
    # The loader says how short it is.
    assert [line.split()[:2] for line in lines] == [["0", "2"], ["1", "2"], ["2", "2"]]


def test_a_run_that_came_to_the_end_of_a_pass_is_not_cut(tmp_path: Path) -> None:
    runs = made(trainers.endless, tmp_path)
    assert "cut" not in runs.done
    assert "uses no loader of torch" in runs.missing["cut"]


def test_a_consumer_left_waiting_by_a_cut_pass_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PATIENCE_S", 1.0)
    runs = made(partial(trainers.long_passes, thread=True), tmp_path)
    assert runs.traces["straight"].finished
    assert "cut" not in runs.done
    assert "no validation and no checkpoint follow" in runs.missing["cut"]


def test_the_batches_of_two_steps_are_counted_with_accumulation(tmp_path: Path) -> None:
    def train() -> None:
        net = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for place, (x,) in enumerate(DataLoader(TensorDataset(torch.randn(40, 1)), 2), start=1):
            net(x).square().mean().backward()
            if place % 3 == 0:
                optimizer.step()
                optimizer.zero_grad()

    _, trace = watched(train, tmp_path)
    assert list(short_passes(trace).values()) == [6]
    assert not stopped_early(trace)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_loaders_say_and_deliver_as_many_batches(tmp_path: Path, workers: int, persistent: bool) -> None:
    watch = install(tmp_path / "trace", tmp_path)
    try:
        Cutting(watch, {"l0": 3}).install()
        data = TensorDataset(torch.arange(64.0))
        first, other, short = (
            DataLoader(data, 2, num_workers=workers, persistent_workers=persistent and workers > 0),
            DataLoader(data, 2),
            DataLoader(data, 32),
        )
        passes = [[float(x[0]) for (x,) in first] for _ in range(2)]
        lengths = [len(loader) for loader in (first, other, short)]
        delivered = [sum(1 for _ in loader) for loader in (first, other, short)]
    finally:
        watch.close()
    assert passes == [[0.0, 2.0, 4.0]] * 2
    assert lengths == delivered == [3, OTHERS, 2]
    assert len(first) == 32  # and everything is as it was
