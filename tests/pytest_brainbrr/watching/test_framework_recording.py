"""Recording what frameworks wrap and are told, NumPy's argmax, and token sequences."""

import importlib
import sys

import numpy as np
import pytest
import torch
from torch import nn
from watching_help import watched

from pytest_brainbrr.observers import install
from pytest_brainbrr.observers.tensors import digest
from pytest_brainbrr.observers.tokens import token_facts


def test_numpy_argmax_leaves_its_axis_and_ends(tmp_path):
    scores = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    original = np.argmax
    result, trace = watched(lambda: np.argmax(scores, axis=0), tmp_path)
    assert np.array_equal(result, original(scores, axis=0))
    (event,) = trace.events("choice")
    assert (event["shape"], event["axis"]) == ([6, 3], 0)
    assert event["ends"] == [digest(torch.from_numpy(scores[row].copy())) for row in (0, -1)]
    assert np.argmax is original


def test_wrapped_optimizers_are_one(tmp_path):
    accelerate = pytest.importorskip("accelerate")

    def train():
        accelerator = accelerate.Accelerator(cpu=True)
        model = nn.Linear(3, 1)
        model, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters()))
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        accelerator.backward(model(torch.ones(2, 3)).mean())
        optimizer.step()
        schedule.step()
        return model, optimizer, schedule

    kept, trace = watched(train, tmp_path)
    assert kept
    (stepped,) = {step["optimizer"] for step in trace.steps}
    assert {event["optimizer"] for event in trace.events("scheduler")} == {stepped}
    (snapshot,) = trace.events("snapshot", when="end")
    assert len(snapshot["optimizers"]) == 1


def test_transformers_evaluation_and_choice(tmp_path):
    transformers = pytest.importorskip("transformers")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x, labels=None):
            logits = self.linear(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    rows = [{"x": torch.randn(4, generator=torch.Generator().manual_seed(n)), "labels": n % 2} for n in range(8)]

    def train(label_names):
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"), max_steps=2, eval_strategy="steps", eval_steps=1, save_strategy="no",
            use_cpu=True, report_to="none", disable_tqdm=True, label_names=label_names, logging_steps=1,
        )  # fmt: skip
        trainer = transformers.Trainer(
            Net(),
            arguments,
            train_dataset=rows,
            eval_dataset=rows,
            compute_metrics=lambda given: {"n": len(given.label_ids)},
        )
        trainer.train()

    for names, called in ((None, True), (["label"], False)):
        _, trace = watched(lambda names=names: train(names), tmp_path / str(called))
        assert [event["metrics_called"] for event in trace.events("evaluated")] == [called] * 2
        assert [event["framework"] for event in trace.events("declared")] == ["transformers"]
        logged = {name for event in trace.events("metric") for name in event["values"]}
        assert ("eval_n" in logged) is called


def test_token_facts_know_shift_and_padding():
    ids = torch.arange(1, 25).reshape(2, 12)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    labels = ids.clone()
    facts = token_facts([("input_ids", ids), ("attention_mask", mask), ("labels", labels)])
    assert {"of": "labels", "to": "input_ids", "shift": 0} in facts["shifts"]
    assert facts["padding"] == {"places": 3, "values": [22, 23, 24], "elements": 24}
    assert facts["targets"]["labels"]["1"][0] == digest(ids[:, 1:].contiguous().reshape(-1))
    moved = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], 1)
    assert token_facts([("x", ids), ("y", moved)])["shifts"] == [{"of": "y", "to": "x", "shift": 1}]
    assert token_facts([("x", torch.zeros(3, 8, dtype=torch.int64)), ("y", torch.ones(3, 8))]) is None


def test_sequences_are_known_without_their_padding():
    ids = torch.arange(1, 41).reshape(2, 20)

    def rows(width):
        padded = nn.functional.pad(ids, (0, width))
        return token_facts([("input_ids", padded), ("attention_mask", (padded > 0).long())])["rows"]

    assert rows(0) == rows(5) == [digest(row) for row in ids]
    assert token_facts([("x", ids)])["rows"] is None


def test_a_framework_imported_while_data_are_laid_out_is_watched(tmp_path):
    watch = install(tmp_path / "trace", tmp_path)
    seen = []
    sys.modules.pop("colorsys", None)
    watch.when_imported("colorsys", seen.append)
    watch.active = False
    try:
        importlib.import_module("colorsys")
    finally:
        watch.active = True
        watch.close()
    assert [module.__name__ for module in seen] == ["colorsys"]
