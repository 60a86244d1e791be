"""Accelerate as its documentation shows it: prepare, accumulate, gather_for_metrics, save_state, a registered average."""

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset


def train(run, faults=frozenset()):
    set_seed(run.seed)
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=2, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True)
    )
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(56, 12, generator=generator)
    label = (signal.sum(1) > 0).long()
    loader = DataLoader(TensorDataset(signal[:32], label[:32]), 4, shuffle=True)
    held_out = DataLoader(TensorDataset(signal[32:], label[32:]), 10)
    model = nn.Sequential(nn.Linear(12, 32), nn.LayerNorm(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))
    first = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    raw_optimizer, raw_schedule = optimizer, schedule
    model, optimizer, loader, held_out, schedule = accelerator.prepare(model, optimizer, loader, held_out, schedule)
    if "acc-kit-raw-optimizer" in faults:
        optimizer = raw_optimizer
    if "acc-kit-raw-schedule" in faults:
        schedule = raw_schedule
    average = AveragedModel(accelerator.unwrap_model(model), multi_avg_fn=get_ema_multi_avg_fn(0.9))
    if "acc-kit-average-not-registered" not in faults:
        accelerator.register_for_checkpointing(average)
    start = 0
    if run.resume_from:
        accelerator.load_state(str(run.resume_from))
        start = int(Path(run.resume_from).name.split("-")[-1])
    steps = 4 * start
    for epoch in range(start, (run.max_steps + 3) // 4):
        loader.set_epoch(epoch)
        model.train()
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(x), y)
                accelerator.backward(loss / 2 if "acc-kit-divided-twice" in faults else loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                average.update_parameters(accelerator.unwrap_model(model))
                steps += 1
            if steps == run.max_steps and accelerator.sync_gradients:
                break
        model.eval()
        right = seen = 0
        for x, y in held_out:
            with torch.no_grad():
                guess = model(x).argmax(0 if "acc-kit-argmax-over-samples" in faults else 1)
            guess, truth = accelerator.gather_for_metrics((guess, y))
            right += sum(int(a == b) for a, b in zip(guess, truth, strict=False))
            seen += len(truth)
        accelerator.print(f"epoch {epoch}: accuracy {right / seen:.3f}")
        accelerator.save_state(str(run.workdir / f"epoch-{epoch + 1}"))
    weights = first if "acc-kit-saves-first-weights" in faults else accelerator.get_state_dict(model)
    accelerator.save(weights, run.workdir / "model.pt")
