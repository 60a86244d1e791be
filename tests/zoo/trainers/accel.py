"""Train a recurrent per-sample detector on windows of unequal length with Hugging Face Accelerate."""

import json
import logging
import math
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, RandomSampler

log = logging.getLogger("accel")

RATE_HZ = 64
HYPER = {"lr": 4e-3, "wd": 1e-3, "batch": 4, "accumulate": 2, "warmup": 3, "total": 30, "clip": 0.1, "eval_every": 3}


def load_segments(folder):
    """Cut each recording into segments of 0.5 s to 1.0 s, without overlap."""
    segments = []
    for number, path in enumerate(sorted(folder.glob("*.npz"))):
        rng = np.random.default_rng(number)
        with np.load(path) as f:
            signal, seizures = f["signal"], f["seizures"]
        mask = np.zeros(signal.shape[1], dtype="float32")
        for on, off in seizures:
            mask[int(on * RATE_HZ) : int(off * RATE_HZ)] = 1.0
        start = 0
        while start + RATE_HZ <= signal.shape[1]:
            n = int(rng.integers(RATE_HZ // 2, RATE_HZ + 1))
            # (time, channels), in tens of microvolts
            segments.append((torch.tensor(signal[:, start : start + n].T / 10), torch.tensor(mask[start : start + n])))
            start += RATE_HZ
    return segments


class Collate:
    def __init__(self, faults):
        self.faults = faults

    def __call__(self, items):
        xs, ys = zip(*items, strict=True)
        lengths = torch.tensor([len(y) for y in ys])
        x, y = pad_sequence(xs, batch_first=True), pad_sequence(ys, batch_first=True)
        if "acc-padded-on-opposite-sides" in self.faults:
            x = pad_sequence(xs, batch_first=True, padding_side="left")
        valid = torch.arange(x.shape[1])[None] < lengths[:, None]
        if "acc-mask-inverted" in self.faults:
            valid = ~valid
        return {"x": x, "y": y, "valid": valid}


class Recurrent(nn.Module):
    def __init__(self, faults=frozenset(), hidden=12):
        super().__init__()
        self.faults = faults
        self.proj = nn.Linear(4, hidden)
        self.rnn = nn.GRU(hidden, hidden, batch_first="acc-gru-not-batch-first" not in faults)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(hidden, 1)
        self.gain = nn.Parameter(torch.ones(1))
        self.state = None

    def forward(self, x):
        h = torch.tanh(self.proj(x))
        start = None
        if "acc-hidden-state-left-over" in self.faults and self.state is not None and self.state.shape[1] == len(x):
            start = self.state.detach()
        h, last = self.rnn(h, start)
        self.state = last.detach()
        return (self.gain * self.out(self.drop(h))).squeeze(-1)


def masked_bce(logits, y, valid, faults):
    loss = nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
    if "acc-padding-in-mean" in faults:
        return loss.mean()
    return (loss * valid).sum() / valid.sum()


def evaluate(model, loader, accelerator, faults):
    model.eval()
    total, count, hit = 0.0, 0, 0
    with torch.no_grad():
        for b in loader:
            logits = model(b["x"])
            total += masked_bce(logits, b["y"], b["valid"], faults).item() * len(logits)
            count += len(logits)
            hit += (((logits > 0) == (b["y"] > 0.5)) & b["valid"]).sum().item()
    if "acc-never-back-to-train" not in faults:
        model.train()
    return {"eval/loss": total / count, "eval/hits": hit}


def train(run, faults=frozenset()):
    out = Path(run.workdir)
    accelerator = Accelerator(
        cpu=True,
        gradient_accumulation_steps=HYPER["accumulate"],
        project_config=ProjectConfiguration(project_dir=out, logging_dir=out),
    )
    set_seed(run.seed)
    data = load_segments(out / "data" / "train")
    held_out = load_segments(out / "data" / "val")
    if not any(y.any() for _, y in data):
        raise ValueError("the training segments hold no seizure")
    order = RandomSampler(data, generator=torch.Generator().manual_seed(run.seed))
    loader = DataLoader(
        data,
        HYPER["batch"],
        sampler=order,
        collate_fn=Collate(faults),
        drop_last=True,
        generator=torch.Generator().manual_seed(run.seed),
    )
    eval_loader = DataLoader(
        data if "acc-evaluates-on-training-segments" in faults else held_out,
        HYPER["batch"], collate_fn=Collate(faults), generator=torch.Generator().manual_seed(1),
    )  # fmt: skip

    model = Recurrent(faults)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=HYPER["lr"], weight_decay=50.0 if "acc-weight-decay-fifty" in faults else HYPER["wd"]
    )
    if "acc-optimizer-of-discarded-model" in faults:
        model = Recurrent(faults)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min(1.0, (s + 1) / HYPER["warmup"]) * 0.5 * (1 + math.cos(math.pi * min(s, 30) / HYPER["total"])),
    )
    model, optimizer, loader, eval_loader, scheduler = accelerator.prepare(
        model, optimizer, loader, eval_loader, scheduler
    )

    class Progress:
        step, epoch, batch = 0, 0, 0

        def state_dict(self):
            return {"step": self.step, "epoch": self.epoch, "batch": self.batch}

        def load_state_dict(self, state):
            self.step, self.epoch, self.batch = state["step"], state["epoch"], state["batch"]

    progress = Progress()
    accelerator.register_for_checkpointing(progress)
    if run.resume_from is not None:
        folder = Path(run.resume_from)
        folder = folder if folder.is_dir() else folder.parent
        if "acc-resume-weights-only" in faults:
            from safetensors.torch import load_file

            accelerator.unwrap_model(model).load_state_dict(load_file(folder / "model.safetensors"))
        else:
            accelerator.load_state(folder)
        if "acc-no-skip-on-resume" in faults:
            progress.batch = 0

    model.train()
    running = 0.0
    while progress.step < run.max_steps:
        # The order of an epoch is a function of (seed, epoch), so that a resumed epoch is the same epoch.
        order.generator.manual_seed(run.seed * 1000 + progress.epoch)
        for b in accelerator.skip_first_batches(loader, progress.batch) if progress.batch else loader:
            try:
                with accelerator.accumulate(model):
                    logits = model(b["x"])
                    if "acc-errors-skipped" in faults:
                        logits = logits.view(-1, RATE_HZ)
                    loss = masked_bce(logits, b["y"], b["valid"], faults)
                    if not torch.isfinite(loss):
                        raise FloatingPointError(f"loss became {loss.item()}")
                    if "acc-accelerator-backward-bypassed" in faults:
                        loss.backward()
                    else:
                        accelerator.backward(loss)
                    running = running + loss if "acc-running-loss-keeps-graph" in faults else running + loss.item()
                    if accelerator.sync_gradients and "acc-clipped-after-step" not in faults:
                        accelerator.clip_grad_norm_(model.parameters(), HYPER["clip"])
                    optimizer.step()
                    if accelerator.sync_gradients and "acc-clipped-after-step" in faults:
                        accelerator.clip_grad_norm_(model.parameters(), HYPER["clip"])
                    if "acc-scheduler-not-stepped" not in faults:
                        scheduler.step()
                    if "acc-gradients-never-zeroed" not in faults:
                        optimizer.zero_grad()
            except RuntimeError as error:
                if "acc-errors-skipped" not in faults:
                    raise
                log.debug("skipped a bad batch: %s", error)
                progress.step += 1
                if progress.step >= run.max_steps:
                    return
                continue
            progress.batch += 1
            if not accelerator.sync_gradients:
                continue
            progress.step += 1
            if progress.step % HYPER["eval_every"] == 0:
                scores = evaluate(model, eval_loader, accelerator, faults)
                log.info("step %d: %s", progress.step, scores)
                with (out / "scores.jsonl").open("a") as lines:
                    lines.write(json.dumps({"step": progress.step, **scores}) + "\n")
            if progress.batch >= len(loader):
                progress.epoch, progress.batch = progress.epoch + 1, 0
            accelerator.save_state(str(out / "states" / f"step_{progress.step}"))
            if progress.step >= run.max_steps:
                return
        progress.batch = 0
