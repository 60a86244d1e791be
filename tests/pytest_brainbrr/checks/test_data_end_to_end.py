"""One real, tiny trainer from file to checkpoint: healthy it passes, with a planted fault it is caught by name."""

import functools

import pytest

import pytest_brainbrr as smoke

pytestmark = pytest.mark.slow

CHECKS = (
    "split-disjoint",
    "labels-in-order",
    "held-out-apart",
    "repeats",
    "resume-continues",
    "resume-reads",
    "batch-independent",
    "reading-changes-nothing",
    "checkpoint-complete",
    "no-positives",
)


def prepare(run):
    import numpy as np

    random = np.random.default_rng(0)
    for split, windows in (("train", 24), ("val", 8)):
        signal = random.normal(size=(windows, 3, 32)).astype("float32")
        label = (random.random(windows) < (0 if run.data == "no_positives" else 0.5)).astype("float32")
        folder = run.workdir / "data" / split
        folder.mkdir(parents=True)
        np.savez(folder / "p01_s001.npz", signal=signal, label=label)


def train(run, fault=None):
    import numpy as np
    import torch
    from torch.nn import functional
    from torch.utils.data import DataLoader, TensorDataset

    def read(split):
        with np.load(run.workdir / "data" / split / "p01_s001.npz") as file:
            return torch.from_numpy(file["signal"]), torch.from_numpy(file["label"])

    def collate(items):
        x, y = (torch.stack(part) for part in zip(*items, strict=True))
        return x, y.roll(1) if fault == "rolled" else y

    torch.manual_seed(run.seed)
    (x, y), (x_val, y_val) = read("train"), read("val")
    if not y.any() and fault != "unguarded":
        raise SystemExit("no positive label in the training data")
    center = torch.cat([x, x_val]).mean() if fault == "statistics" else x.mean()
    held_out = (x, y) if fault == "leak" else (x_val, y_val)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(96, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    step = 0
    if run.resume_from is not None:
        state = torch.load(run.resume_from)
        model.load_state_dict(state["model"])
        step = state["step"]
        if fault != "optimizer":
            optimizer.load_state_dict(state["optimizer"])
    while step < run.max_steps:
        order = torch.randperm(24, generator=torch.Generator().manual_seed(run.seed + step)).tolist()[:8]
        loader = DataLoader(TensorDataset(x - center, y), 8, sampler=order, collate_fn=collate)
        for signal, label in loader:
            loss = functional.binary_cross_entropy_with_logits(model(signal).squeeze(1), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        step += 1
        if step % 2 == 0:
            model.eval()
            with torch.no_grad():
                for signal, _ in DataLoader(TensorDataset(held_out[0] - center, held_out[1]), 8):
                    model(signal)
            model.train()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        torch.save(state, run.workdir / f"step-{step}.pt")


def judged(fault, folder):
    target = smoke.Target(
        "tiny",
        train=functools.partial(train, fault=fault),
        prepare=prepare,
        resumable=True,
        variants=("normal", "no_positives"),
    )
    return smoke.run(target, workdir=folder, steps=4, checks=CHECKS)


def test_healthy_trainer_passes_every_check(tmp_path):
    report = judged(None, tmp_path)
    assert report.findings == ()
    assert {outcome.check for outcome in report.outcomes if outcome.status == "passed"} == set(CHECKS)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("leak", "split-disjoint"),
        ("rolled", "labels-in-order"),
        ("statistics", "held-out-apart"),
        ("optimizer", "resume-continues"),
        ("unguarded", "no-positives"),
    ],
)
def test_planted_fault_is_found_by_its_check(fault, check, tmp_path):
    assert [finding.check for finding in judged(fault, tmp_path).findings] == [check]
