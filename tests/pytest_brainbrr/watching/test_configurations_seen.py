"""Configurations are seen where they are at hand, and looking at them changes nothing."""

import argparse
import gc
import json
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from watching_help import watched

from pytest_brainbrr.afterwards import _configurations, add_parent_events
from pytest_brainbrr.trace import Trace

DEFAULTS = {"lr": 0.5, "batch_size": 3}


@dataclass
class Settings:
    lr: float = 0.1
    width: int = 3


class Trainer:
    def __init__(self) -> None:
        self.hparams = SimpleNamespace(lr=0.2, optim={"betas": (0.8, 0.9)})

    def build(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(nn.Linear(2, 1).parameters(), lr=self.hparams.lr)


def seen(trace: Trace) -> dict[str, dict[str, object]]:
    return {event["name"]: event["values"] for event in trace.events("configuration")}


def test_variables_attributes_and_arguments(tmp_path: Path) -> None:
    def run() -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float, default=0.3)
        parser.parse_args([])
        settings, rows = Settings(), {"weights": torch.zeros(2), "lr": 0.7}
        settings.learning_rate = 4.0  # type: ignore[attr-defined]
        Trainer().build()
        del rows

    _, trace = watched(run, tmp_path)
    assert seen(trace) == {
        "arguments": {"lr": 0.3},
        "settings": {"lr": 0.1, "width": 3, "learning_rate": 4.0},
        "hparams": {"lr": 0.2, "optim.betas": [0.8, 0.9]},
    }
    assert [event["undeclared"] for event in trace.events("configuration")].count(["learning_rate"]) == 1


def test_globals_only_where_they_are_named(tmp_path: Path) -> None:
    def run() -> None:
        torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=DEFAULTS["lr"])

    _, trace = watched(run, tmp_path)
    assert seen(trace) == {"DEFAULTS": {"lr": 0.5, "batch_size": 3}}


def test_variables_kept_as_a_mapping_stay_as_they_are(tmp_path: Path) -> None:
    def run(rate: float = 0.1) -> list[list[str]]:
        kept = locals()
        before = sorted(kept)
        model = nn.Linear(2, 1)
        torch.optim.SGD(model.parameters(), lr=rate)
        return [before, sorted(kept)]

    (before, after), trace = watched(run, tmp_path)
    assert before == after
    assert seen(trace) == {}


def test_nothing_is_kept_alive(tmp_path: Path) -> None:
    def run() -> bool:
        config, large = {"lr": 0.1}, torch.zeros(5)
        reference = weakref.ref(large)
        torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=config["lr"])
        del large
        gc.collect()
        return reference() is None

    gone, trace = watched(run, tmp_path)
    assert gone
    assert seen(trace) == {"config": {"lr": 0.1}}


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("a.json", '{"lr": 0.1, "model": {"dropout": 0.2}}', {"lr": 0.1, "model.dropout": 0.2}),
        ("a.yaml", "optim:\n  lr: 0.1\n", {"optim.lr": 0.1}),
        ("a.toml", "[optim]\nlr = 0.1\n", {"optim.lr": 0.1}),
        ("a.yml", "lr: [0.1\n", None),
        ("a.json", '{"samples": 4}', None),
        ("a.json", "[1, 2]", None),
    ],
)
def test_files_read_before_the_first_step(name: str, text: str, values: object, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "trace").mkdir()
    (tmp_path / "work" / name).write_text(text)
    (tmp_path / "work" / "late.json").write_text('{"lr": 7}')
    events = [
        {"kind": "process", "role": "main"},
        {"kind": "file_open", "path": name, "mode": "read", "own": True},
        {"kind": "file_open", "path": "late.json", "mode": "read", "own": False},
        {"kind": "step"},
        {"kind": "file_open", "path": "late.json", "mode": "read", "own": True},
    ]
    lines = [json.dumps({"n": n, **event}, separators=(",", ":")) for n, event in enumerate(events)]
    lines = ['{"kind":' + line.partition('"kind":')[2].rstrip("}") + f',"n":{n}}}' for n, line in enumerate(lines)]
    (tmp_path / "trace" / "trace-1.jsonl").write_text("\n".join(lines) + "\n")
    add_parent_events(tmp_path, {"code": 0, "how": "ended"})
    found = Trace.read(tmp_path / "trace").events("configuration")
    assert [event["values"] for event in found] == ([values] if values is not None else [])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a.yaml"], {"train.batch_size": 2, "lr": 0.1}),
        (["a.yaml", "b.yaml"], {"lr": 0.1}),  # which of the two is in force, nobody says
        (["a.yaml", "more/b.yaml"], {"train.batch_size": 2, "lr": 0.1}),
    ],
)
def test_what_several_files_of_a_folder_tell_is_a_choice(names, told, tmp_path):
    (tmp_path / "more").mkdir()
    for name in names:
        (tmp_path / name).write_text("train: {batch_size: 2}\n" + ("lr: 0.1\n" if name == "a.yaml" else ""))
    lines = [
        '{"kind":"file_open"' + json.dumps({"path": name, "mode": "read", "own": True}).replace("{", ",", 1)
        for name in names
    ]
    found = {event["name"]: event["values"] for event in _configurations(lines, tmp_path)}
    assert found["a.yaml"] == told
