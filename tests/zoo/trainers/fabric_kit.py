"""Fabric as its documentation shows it: setup, no_backward_sync, clip_gradients, one state saved and loaded."""

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def train(run, faults=frozenset()):
    fabric = L.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    fabric.launch()
    fabric.seed_everything(run.seed)
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(56, 4, 16, generator=generator)
    label = (signal[:, 1].mean(-1) > 0).long()
    order = torch.Generator().manual_seed(run.seed)
    loader = DataLoader(TensorDataset(signal[:32], label[:32]), 8, shuffle=True, generator=order)
    loader, held_out = fabric.setup_dataloaders(loader, DataLoader(TensorDataset(signal[32:], label[32:]), 8))
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 14, 2))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    raw = model
    model, optimizer = fabric.setup(model, optimizer)
    called = raw if "fabric-calls-raw-module" in faults else model
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.2, 1.0, total_iters=4)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    if "fabric-state-without-optimizer" in faults:
        del parts["optimizer"]
    state = {**parts, "step": 0, "order": order.get_state()}
    if run.resume_from:
        fabric.load(run.resume_from, state)
        order.set_state(state["order"])
    while state["step"] < run.max_steps:
        model.train()
        for number, (x, y) in enumerate(loader):
            waits = number % 2 == 0
            with fabric.no_backward_sync(model, enabled=waits):
                loss = F.cross_entropy(called(x), y)
                fabric.backward(loss if "fabric-sums-accumulated" in faults else loss / 2)
            if not waits:
                if "fabric-clips-after-step" not in faults:
                    fabric.clip_gradients(model, optimizer, max_norm=0.5)
                optimizer.step()
                if "fabric-clips-after-step" in faults:
                    fabric.clip_gradients(model, optimizer, max_norm=0.5)
                optimizer.zero_grad()
                schedule.step()
                state["step"] += 1
        model.eval()
        with torch.no_grad():
            total = sum(F.cross_entropy(model(x), y, reduction="sum").item() for x, y in held_out)
        fabric.print(f"step {state['step']}: validation loss {total / 24:.4f}")
        state["order"] = order.get_state()
        fabric.save(run.workdir / f"step-{state['step']}.ckpt", state)
