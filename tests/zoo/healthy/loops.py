"""Healthy trainers whose loop, checkpoints or surroundings are unusual."""

import contextlib
import json
import logging
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.healthy.common import accuracy, batches, load, small_net

STEP_LOGGER = logging.getLogger("zoo.steps")


def one_step(model, optimizer, xb, yb):
    optimizer.zero_grad()
    loss = F.binary_cross_entropy_with_logits(model(xb).squeeze(-1), yb)
    loss.backward()
    optimizer.step()
    return loss.item()


def no_validation(run):
    """No validation of any kind, and a single checkpoint at the end."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters())
    for _, batch in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        one_step(model, optimizer, *batch)
    torch.save(model, Path(run.workdir) / "whole-model.pt")


def weights_only(run):
    """Checkpoints hold weights for inference only; the run cannot be resumed and does not pretend to."""
    x, y, xv, yv = load(run)
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step, batch in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        one_step(model, optimizer, *batch)
        if step % 2:
            torch.save(model.state_dict(), Path(run.workdir) / f"weights-{step}-{accuracy(model, xv, yv):.2f}.pt")


def no_checkpoint(run):
    """Nothing is written but a log."""
    x, y, xv, yv = load(run)
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    with (Path(run.workdir) / "log.csv").open("w") as log:
        for step, batch in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
            log.write(f"{step},{one_step(model, optimizer, *batch):.6f},{accuracy(model, xv, yv):.3f}\n")


def overwrites_last(run):
    """One file, overwritten in place after each epoch: not crash-safe, as in most scripts, but correct and resumable."""
    x, y, *_ = load(run)
    path = Path(run.workdir) / "last.pth"
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    step = 0
    if run.resume_from:
        state = torch.load(run.resume_from)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    stream = batches(x, y, run.seed)
    for _ in range(step):
        next(stream)
    while step < run.max_steps:
        one_step(model, optimizer, *next(stream))
        step += 1
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, path)


def numpy_checkpoint(run):
    """Weights are written with numpy, not with torch."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _, batch in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        one_step(model, optimizer, *batch)
    np.savez(Path(run.workdir) / "weights.npz", **{name: value.numpy() for name, value in model.state_dict().items()})


def early_stopping(run):
    """Training stops when the validation loss has not improved twice, before max_steps, and takes the best weights back."""
    x, y, xv, yv = load(run)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    best, best_weights, waited = float("inf"), None, 0
    for _, batch in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        one_step(model, optimizer, *batch)
        model.eval()
        with torch.no_grad():
            loss = F.binary_cross_entropy_with_logits(model(xv).squeeze(-1), yv).item()
        model.train()
        if loss < best - 0.01:
            best, waited = loss, 0
            best_weights = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            waited += 1
        if waited == 2:
            break
    model.load_state_dict(best_weights)
    torch.save(best_weights, Path(run.workdir) / "best.pt")


@dataclass
class OptimizerConfig:
    name: str = "SGD"
    options: dict = field(default_factory=lambda: {"lr": 0.05, "momentum": 0.9, "nesterov": True})


@dataclass
class Config:
    width: int = 6
    batch_size: int = 8
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


class Trainer:
    """Everything by configuration, callbacks by name."""

    def __init__(self, config, run):
        self.config, self.run = config, run
        self.data = load(run)
        self.model = small_net(config.width)
        self.optimizer = getattr(torch.optim, config.optimizer.name)(
            self.model.parameters(), **config.optimizer.options
        )
        self.callbacks = {"after_step": [self.log], "after_fit": [self.export]}
        self.history = []

    def emit(self, event, **facts):
        for callback in self.callbacks[event]:
            callback(**facts)

    def log(self, step, loss):
        self.history.append(loss)
        STEP_LOGGER.info("step %d loss %.4f", step, loss)

    def export(self):
        (Path(self.run.workdir) / "history.json").write_text(json.dumps(self.history))

    def fit(self):
        stream = batches(*self.data[:2], self.run.seed, self.config.batch_size)
        for step in range(self.run.max_steps):
            self.emit("after_step", step=step, loss=one_step(self.model, self.optimizer, *next(stream)))
        self.emit("after_fit")


def dataclass_config(run):
    """Configuration in dataclasses, the optimizer chosen by name, callbacks."""
    Trainer(Config(), run).fit()


def print_heavy(run):
    """Prints everything, with carriage returns and colors."""
    x, y, xv, yv = load(run)
    model = small_net()
    print(model)
    optimizer = torch.optim.Adam(model.parameters())
    for step, batch in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        loss = one_step(model, optimizer, *batch)
        print(f"\r\x1b[32m[{'#' * step:<10}]\x1b[0m loss={loss:.3f}", end="", flush=True)
        for name, parameter in model.named_parameters():
            print(f"\n  {name:<12} |w|={parameter.norm().item():.3f} |g|={parameter.grad.norm().item():.3e}", end="")
    print("\nERROR rate on validation:", 1 - accuracy(model, xv, yv), "(no error, just the name of the figure)")


def validates_first(run):
    """A sanity validation before the first step, then one after each step, and one on training data in eval mode."""
    x, y, xv, yv = load(run)
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    print("before", accuracy(model, xv, yv))
    for _, batch in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        one_step(model, optimizer, *batch)
        print("val", accuracy(model, xv, yv), "train", accuracy(model, x[:8], y[:8]))


def cross_validation(run):
    """Leave one patient out: a new model and optimizer per fold, the same files on both sides of different folds."""
    x, y, *_ = load(run)
    patient = torch.arange(len(x)) // 10
    for fold in range(2):
        model = small_net()
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        inside = patient != fold
        for _, batch in zip(range(run.max_steps // 2), batches(x[inside], y[inside], run.seed), strict=False):
            one_step(model, optimizer, *batch)
        print("fold", fold, accuracy(model, x[~inside], y[~inside]))


def learning_rate_search(run):
    """A search runs some steps on the model, puts everything back, then trains from the start."""
    x, y, *_ = load(run)
    model = small_net()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    results = {}
    for lr in (1e-3, 1e-1):
        probe = torch.optim.SGD(model.parameters(), lr)
        results[lr] = one_step(model, probe, x[:8], y[:8])
        model.load_state_dict(start)
    optimizer = torch.optim.SGD(model.parameters(), min(results, key=results.get))
    for _, batch in zip(range(run.max_steps - 2), batches(x, y, run.seed), strict=False):
        one_step(model, optimizer, *batch)


def retries_bad_files(run):
    """A broken file is expected: it is named, counted and left out; all other errors go up."""
    broken = Path(run.workdir) / "data" / "train" / "p99_s001.npz"
    broken.write_bytes(b"")
    left_out = []
    for path in sorted(broken.parent.glob("*.npz")):
        try:
            np.load(path).close()
        except (EOFError, ValueError) as error:
            left_out.append(f"{path.name}: {error}")
            path.unlink()
    logging.getLogger("zoo.data").warning("left out %d files: %s", len(left_out), left_out)
    no_validation(run)


def noisy_generators(run):
    """Draws from every generator, all of them seeded: Python's, numpy's old and new ones, torch's."""
    random.seed(run.seed)
    np.random.seed(run.seed)
    rng = np.random.default_rng(run.seed)
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(run.max_steps):
        rows = torch.tensor(random.sample(range(len(x)), 8))
        shift = int(rng.integers(0, 5))
        scale = float(np.random.uniform(0.9, 1.1))
        one_step(model, optimizer, x[rows].roll(shift, -1) * scale + 0.01 * torch.randn(8, 4, 64), y[rows])


def skips_non_finite(run):
    """A step with a non-finite gradient norm is skipped, counted and reported; here there is one, on purpose."""
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    skipped = 0
    for step, (xb, yb) in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(xb).squeeze(-1), yb)
        (loss * (float("inf") if step == 1 else 1.0)).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not torch.isfinite(norm):
            skipped += 1
            logging.getLogger("zoo.steps").warning("step %d skipped: gradient norm %s", step, norm.item())
            continue
        optimizer.step()
    print(f"{skipped} of {run.max_steps} steps skipped")


def exact_epochs(run):
    """Epochs of a loader, validation each epoch, checkpoint per epoch, resumable at epochs only."""
    x, y, xv, yv = load(run)
    model = small_net()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    order = torch.Generator().manual_seed(run.seed)
    loader = DataLoader(TensorDataset(x, y), 20, shuffle=True, generator=order)
    epoch = 0
    if run.resume_from:
        state = torch.load(run.resume_from)
        for name, part in (("model", model), ("optimizer", optimizer), ("schedule", schedule)):
            part.load_state_dict(state[name])
        order.set_state(state["order"])
        epoch = state["epoch"]
    while epoch * len(loader) < run.max_steps:
        for batch in loader:
            one_step(model, optimizer, *batch)
        schedule.step()
        epoch += 1
        print(f"epoch {epoch}: accuracy {accuracy(model, xv, yv):.3f}")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        path = Path(run.workdir) / f"epoch-{epoch}.pt"
        torch.save({**state, "order": order.get_state(), "epoch": epoch}, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)


def exits_with_zero(run):
    """Ends with sys.exit(0) inside a context manager, as command lines do."""
    with contextlib.suppress(KeyboardInterrupt):
        no_validation(run)
        raise SystemExit(0)


def best_written_at_the_end(run):
    """The best weights of an early validation are kept in memory and written when training is over."""
    x, y, xv, yv = load(run)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 5.0)
    best, kept = float("inf"), {}
    for _, batch in zip(range(run.max_steps), batches(x, y, run.seed), strict=False):
        one_step(model, optimizer, *batch)
        model.eval()
        with torch.no_grad():
            loss = F.binary_cross_entropy_with_logits(model(xv).squeeze(-1), yv).item()
        model.train()
        if loss < best:
            best, kept = loss, {name: value.clone() for name, value in model.state_dict().items()}
        print(f"val_loss {loss:.3f} best {best:.3f}")
    torch.save(kept, Path(run.workdir) / "best.pt")
