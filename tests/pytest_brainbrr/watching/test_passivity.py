"""Watching changes nothing, keeps nothing, leaves nothing behind, and speaks only the words of the vocabulary."""

import copy
import gc
import os
import pickle
import random
import sys
import warnings
import weakref
from pathlib import Path

import pytest
import torch
from odd_trainers import TRAINERS, Net, bare
from torch import nn
from torch.nn.modules import module as registration
from torch.optim import optimizer as optimizer_hooks
from watching_help import same, watched

from pytest_brainbrr.observers import install
from pytest_brainbrr.vocabulary import VOCABULARY

COMMON = {"kind", "n", "t", "pid", "role", "step", "after"}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_watched_run_ends_bitwise_equal(name: str, tmp_path: Path) -> None:
    plain = TRAINERS[name]()
    seen, trace = watched(TRAINERS[name], tmp_path)
    assert same(plain, seen)
    assert same(plain, TRAINERS[name]())
    assert trace.events("observer_error", role=None) == []
    for event in trace.all:
        assert set(event) - COMMON == set(VOCABULARY[event["kind"]].fields), event["kind"]


def replaced_things() -> dict[str, object]:
    owners = (
        nn.functional, nn.utils, nn.Module, torch, torch.autograd, torch.optim.Optimizer, torch.utils.data.DataLoader,
        torch.optim.lr_scheduler.LRScheduler, torch.amp.GradScaler, random, warnings, os, type(os.environ), pickle,
    )  # fmt: skip
    return {
        f"{owner.__name__}.{name}": value for owner in owners for name, value in vars(owner).items() if callable(value)
    }


@pytest.mark.parametrize("error", [None, ValueError, SystemExit, KeyboardInterrupt])
def test_everything_is_put_back(error: type[BaseException] | None, tmp_path: Path) -> None:
    def trainer() -> None:
        bare(2)
        if error is not None:
            raise error

    before, finders = replaced_things(), list(sys.meta_path)
    if error is None:
        watched(trainer, tmp_path)
    else:
        with pytest.raises(error):
            watched(trainer, tmp_path)
    assert {name for name, value in replaced_things().items() if before.get(name) is not value} == set()
    assert sys.meta_path == finders
    assert not registration._has_any_global_hook()
    assert not registration._global_module_registration_hooks
    assert not optimizer_hooks._global_optimizer_pre_hooks
    assert not optimizer_hooks._global_optimizer_post_hooks


def test_nothing_is_kept_alive(tmp_path: Path) -> None:
    kept: list[weakref.ref[object]] = []

    def trainer() -> None:
        net = Net()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        for _ in range(2):
            optimizer.zero_grad()
            out = net(torch.randn(4, 3, 16))
            loss = nn.functional.mse_loss(out, torch.zeros(4))
            loss.backward()
            optimizer.step()
        kept.extend(weakref.ref(thing) for thing in (net, net.head.weight, optimizer, out, loss))

    watch = install(tmp_path / "trace", tmp_path)
    try:
        trainer()
        gc.collect()
        assert [reference() for reference in kept] == [None] * 5
    finally:
        watch.close()


def test_hooks_do_not_travel_with_the_model(tmp_path: Path) -> None:
    def trainer() -> bytes:
        net = Net()
        nn.functional.mse_loss(net(torch.randn(4, 3, 16)), torch.zeros(4)).backward()
        copy.deepcopy(net)
        return pickle.dumps(net)

    data, _ = watched(trainer, tmp_path)
    assert b"brainbrr" not in data


def test_a_failing_observer_is_recorded_and_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_brainbrr.observers.losses import Losses

    def broken(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(Losses, "_record", broken)
    plain = bare(2)
    seen, trace = watched(lambda: bare(2), tmp_path)
    assert same(plain, seen)
    assert [event["observer"] for event in trace.events("observer_error")] == ["losses"]
    assert "no such luck" in str(trace.lost("losses"))
    assert trace.lost("gradients") is None


def test_a_warning_keeps_its_place(tmp_path: Path) -> None:
    def trainer() -> warnings.WarningMessage:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("look here", UserWarning, stacklevel=1)
        return caught[0]

    plain = trainer()
    seen, trace = watched(trainer, tmp_path)
    assert (seen.filename, seen.lineno) == (plain.filename, plain.lineno)
    assert trace.events("warning")[0]["text"] == "look here"
