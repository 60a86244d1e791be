"""Train a per-sample seizure detector in one plain loop, the way the repository of a paper does it."""

import copy
import json
import math
import os
import random
import traceback
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from zoo.trainers.bare_data import EpochSampler, collate_rolled, open_data
from zoo.trainers.bare_model import Net

BATCH = 8
PLANNED_STEPS = 40
WARMUP_STEPS = 4
VALIDATE_EVERY = 2
BASE_LR = 3e-3
CLIP_NORM = 0.1
MIN_DELTA = 0.04


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def warmup_cosine(step):
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (PLANNED_STEPS - WARMUP_STEPS)))


def make_optimizer(model, faults):
    lr = BASE_LR
    if "lr-zero" in faults:
        lr = 0.0
    if "exploding-unchecked" in faults:
        lr = 1e38
    weight_decay = 10.0 if "weight-decay-ten" in faults else 1e-2
    eps = 1.0 if "adam-eps-one" in faults else 1e-8
    parameters = model.parameters()
    if "parameters-listed-twice" in faults:
        parameters = [*model.parameters(), *model.head.parameters()]
    if "optimizer-head-only" in faults:
        parameters = model.head.parameters()
    if "optimizer-over-copy" in faults:
        parameters = copy.deepcopy(model).parameters()
    return torch.optim.AdamW(parameters, lr, weight_decay=weight_decay, eps=eps, maximize="maximize" in faults)


def make_schedule(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine)


def loss_of(logits_BT, mask_BT, faults):
    if "target-ignored" in faults:
        mask_BT = torch.zeros_like(mask_BT)
    if "targets-minus-one-and-one" in faults:
        mask_BT = 2 * mask_BT - 1
    if "loss-on-detached-logits" in faults:
        return F.binary_cross_entropy_with_logits(logits_BT.detach(), mask_BT) + 1e-4 * logits_BT.pow(2).mean()
    loss = F.binary_cross_entropy_with_logits(
        logits_BT, mask_BT, reduction="sum" if "sum-reduction" in faults else "mean"
    )
    if "loss-sign-flipped" in faults:
        loss = -loss
    if "loss-rewrapped" in faults:
        loss = torch.tensor(loss.item(), requires_grad=True)
    return loss


def validate(model, loader, optimizer, faults):
    """Return mean loss and accuracy over the validation windows."""
    if "validation-reseeds" in faults:
        torch.manual_seed(0)
    if "missing-eval" not in faults:
        model.eval()
    losses, right, total = [], 0, 0
    with torch.set_grad_enabled("missing-no-grad" in faults):
        for x, y in loader:
            logits = model(x)
            loss = F.binary_cross_entropy_with_logits(logits, y)
            if "validation-trains" in faults:
                with torch.enable_grad():
                    F.binary_cross_entropy_with_logits(model(x), y).backward()
                optimizer.step()
            losses.append(loss if "missing-no-grad" in faults else loss.item())
            right += ((logits > 0) == (y > 0.5)).sum().item()
            total += y.numel()
    if "stays-in-eval" not in faults:
        model.train()
    if not losses:
        return {"val_loss": 0.0, "val_accuracy": 0.0}
    return {"val_loss": float(sum(losses) / len(losses)), "val_accuracy": right / total}


def save(state, path, faults):
    """Write a checkpoint under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if "checkpoint-in-place" in faults:
        torch.save(state, path)
        return
    partial = path.with_suffix(".tmp")
    torch.save(state, partial)
    os.replace(partial, path)


def capture(model, optimizer, schedule, progress, faults):
    weights = model.state_dict()
    if "only-parameters-saved" in faults:
        weights = dict(model.named_parameters())
    state = {
        "model": weights,
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "progress": dict(progress),
        "rng": {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()},
    }
    for part in ("optimizer", "schedule", "rng"):
        if f"{part}-not-saved" in faults:
            del state[part]
    return state


def restore(path, model, optimizer, schedule, progress, faults):
    """Continue where ``path`` stopped; the generators are restored last, when nothing draws any more."""
    state = torch.load(path, weights_only=False)
    if "prefix-mismatch" in faults:
        state["model"] = {f"module.{name}": value for name, value in state["model"].items()}
    model.load_state_dict(state["model"], strict=not faults & {"prefix-mismatch", "only-parameters-saved"})
    if "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])
    if "schedule" in state:
        schedule.load_state_dict(state["schedule"])
    progress.update(state["progress"])
    if "schedule-restored-twice" in faults:
        for _ in range(progress["step"]):
            optimizer.step()
            schedule.step()
    if "loader-position-forgotten" in faults:
        progress["batch"] = 0
    if "best-metric-forgotten" in faults:
        progress["best"] = -math.inf
    if "step-counter-forgotten" in faults:
        progress["step"] = 0
    if "rng" in state:
        torch.set_rng_state(state["rng"]["torch"])
        np.random.set_state(state["rng"]["numpy"])
        random.setstate(state["rng"]["python"])


def train(run, faults=frozenset()):
    """Run the hidden-crash variant or the real thing."""
    if "crash-hidden" in faults:
        try:
            fit(run, faults)
        except Exception:
            traceback.print_exc()
            print("training finished")
    else:
        fit(run, faults)


def fit(run, faults):
    out = Path(run.workdir) / "out"
    out.mkdir(parents=True, exist_ok=True)
    seed = 42 if "seed-ignored" in faults else run.seed
    if "seeded-too-late" not in faults:
        seed_everything(seed)
    train_set, val_set = open_data(run, faults)
    if sum(mask.sum() for mask in train_set.masks) == 0 and not faults & {
        "no-positives-unnoticed", "annotation-columns-swapped", "target-ignored"
    }:  # fmt: skip
        raise SystemExit("[FATAL] no seizure in any training window")

    model = Net(faults)
    if "encoder-left-frozen" in faults:
        for parameter in model.encoder.parameters():
            parameter.requires_grad = False
    optimizer = make_optimizer(model, faults)
    if "head-swapped-after-optimizer" in faults:
        model.head = nn.Conv1d(8, 1, 1)
    schedule = make_schedule(optimizer)
    if "optimizer-replaced-after-schedule" in faults:
        optimizer = make_optimizer(model, faults)
    clipped = model.parameters()
    if "clip-exhausted-generator" not in faults:
        clipped = list(clipped)
    if "seeded-too-late" in faults:
        torch.seed()
        model.head.reset_parameters()
        seed_everything(seed)

    sampler = EpochSampler(train_set, seed, faults)
    train_loader = DataLoader(
        train_set, BATCH, sampler=sampler, generator=torch.Generator().manual_seed(seed),
        collate_fn=collate_rolled if "labels-rolled-in-collate" in faults else None,
    )  # fmt: skip
    val_loader = DataLoader(
        val_set, 64 if "validation-never-fills-a-batch" in faults else BATCH,
        drop_last=bool(faults & {"validation-never-fills-a-batch", "validation-drops-tail"}),
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip

    progress = {"epoch": 0, "batch": 0, "step": 0, "best": -math.inf}
    start_state = copy.deepcopy(capture(model, optimizer, schedule, progress, faults))
    if run.resume_from is not None:
        checkpoint = Path(run.resume_from)
        if "resume-overwritten-by-fresh" in faults:
            save(capture(model, optimizer, schedule, progress, faults), checkpoint, faults)
        if "resume-looks-elsewhere" in faults:
            checkpoint = out / "last.pt"
        if checkpoint.exists():
            restore(checkpoint, model, optimizer, schedule, progress, faults)
        if "resume-rebuilds-model" in faults:
            model = Net(faults)

    model.train("trained-in-eval" not in faults)
    kept_losses = []
    stop = 2 if "crash-hidden" in faults else PLANNED_STEPS
    while progress["step"] < min(run.max_steps, PLANNED_STEPS):
        sampler.epoch = progress["epoch"]
        sampler.start = progress["batch"] * BATCH
        for x, y in train_loader:
            if "iterator-restarted" in faults:
                x, y = next(iter(DataLoader(train_set, BATCH)))
            if progress["step"] >= stop:
                raise RuntimeError("CUDA error: device-side assert triggered")
            if "batch-errors-swallowed" in faults:
                try:
                    logits = model(x.flatten(1))
                except Exception:
                    progress["step"] += 1
                    continue
            if "view-instead-of-permute" in faults:
                x = x.reshape(x.shape[1], x.shape[0], -1).permute(1, 0, 2)
            if "stepped-on-stale-gradients" in faults and progress["step"] % 2:
                optimizer.step()
            else:
                logits = model(x)
                loss = loss_of(logits, y, faults)
                if not torch.isfinite(loss) and "exploding-unchecked" not in faults:
                    raise FloatingPointError(f"loss {loss.item()} at step {progress['step']}")
                if "missing-zero-grad" not in faults:
                    optimizer.zero_grad()
                loss.backward()
                if "zeroed-before-step" in faults:
                    optimizer.zero_grad(set_to_none=False)
                if "schedule-before-optimizer" in faults:
                    schedule.step()
                if "clipped-after-step" not in faults:
                    nn.utils.clip_grad_norm_(clipped, 1e-9 if "clip-tiny" in faults else CLIP_NORM)
                if "steps-never-due" not in faults or progress["step"] % 4 == 4:
                    optimizer.step()
                if "clipped-after-step" in faults:
                    nn.utils.clip_grad_norm_(clipped, CLIP_NORM)
                kept_losses.append(loss if "losses-keep-graphs" in faults else loss.item())
            if not faults & {"schedule-before-optimizer", "schedule-never-stepped"}:
                schedule.step()
            if "optimizer-rebuilt-each-step" in faults:
                optimizer = make_optimizer(model, faults)
                schedule = make_schedule(optimizer)

            progress["step"] += 1
            progress["batch"] += 1
            if progress["batch"] * BATCH >= len(train_set):
                progress["epoch"] += 1
                progress["batch"] = 0
            end = progress["step"] >= run.max_steps
            if progress["step"] % VALIDATE_EVERY == 0:
                scores = validate(model, val_loader, optimizer, faults)
                better = scores["val_accuracy"] > progress["best"] + MIN_DELTA
                if "best-mode-inverted" in faults:
                    better = scores["val_accuracy"] < progress["best"] or progress["best"] == -math.inf
                if better:
                    progress["best"] = scores["val_accuracy"]
                    save(capture(model, optimizer, schedule, progress, faults), out / "best.pt", faults)
                with (out / "metrics.jsonl").open("a") as log:
                    log.write(
                        json.dumps(
                            {"step": progress["step"], "loss": float(kept_losses[-1] if kept_losses else 0), **scores}
                        )
                        + "\n"
                    )
            if progress["step"] % VALIDATE_EVERY == 0 or end:
                state = capture(model, optimizer, schedule, progress, faults)
                if "checkpoint-holds-initial-weights" in faults:
                    state["model"] = start_state["model"]
                save(state, out / "last.pt", faults)
            if end:
                break
