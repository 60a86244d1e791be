"""Healthy trainers on frameworks: Lightning with manual optimization, Fabric, plain Accelerate."""

import logging
import warnings
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.healthy.common import load, small_net


class Adversarial(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generate = nn.Sequential(nn.Linear(8, 256), nn.Unflatten(1, (4, 64)))
        self.judge = nn.Sequential(nn.Flatten(), nn.Linear(256, 1))

    def training_step(self, batch, batch_idx):
        g_optimizer, d_optimizer = self.optimizers()
        fake = self.generate(torch.randn(len(batch[0]), 8))
        if batch_idx % 2 == 0:
            self.toggle_optimizer(d_optimizer)
            d_loss = F.softplus(-self.judge(batch[0])).mean() + F.softplus(self.judge(fake.detach())).mean()
            d_optimizer.zero_grad()
            self.manual_backward(d_loss)
            d_optimizer.step()
            self.untoggle_optimizer(d_optimizer)
        else:
            self.toggle_optimizer(g_optimizer)
            g_loss = F.softplus(-self.judge(fake)).mean()
            g_optimizer.zero_grad()
            self.manual_backward(g_loss)
            g_optimizer.step()
            self.untoggle_optimizer(g_optimizer)

    def configure_optimizers(self):
        return torch.optim.Adam(self.generate.parameters(), 1e-3), torch.optim.Adam(self.judge.parameters(), 1e-3)


def lightning_gan(run):
    """Manual optimization of two networks in turns."""
    warnings.filterwarnings("ignore", module="lightning")
    L.seed_everything(run.seed, verbose=False)
    x, y, *_ = load(run)
    trainer = L.Trainer(accelerator="cpu", max_steps=run.max_steps, logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(Adversarial(), DataLoader(TensorDataset(x, y), 8, shuffle=True))


class Regressor(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = small_net()

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy_with_logits(self.net(batch[0]).squeeze(-1), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val", F.binary_cross_entropy_with_logits(self.net(batch[0]).squeeze(-1), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05)


def lightning_accumulates(run):
    """Automatic accumulation over two batches, validation per epoch, Lightning's default checkpoint."""
    warnings.filterwarnings("ignore", module="lightning")
    L.seed_everything(run.seed, verbose=False)
    x, y, xv, yv = load(run)
    trainer = L.Trainer(accelerator="cpu", max_steps=run.max_steps, accumulate_grad_batches=2, logger=False,
                        default_root_dir=run.workdir, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(
        Regressor(),
        DataLoader(TensorDataset(x, y), 5, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(xv, yv), 5),
    )


def fabric(run):
    """Fabric sets model, optimizer and loader up; checkpoints go through it."""
    torch.manual_seed(run.seed)
    light = Fabric(accelerator="cpu", devices=1)
    x, y, *_ = load(run)
    model = small_net()
    model, optimizer = light.setup(model, torch.optim.Adam(model.parameters(), 3e-3))
    loader = light.setup_dataloaders(DataLoader(TensorDataset(x, y), 8, shuffle=True))
    step = 0
    while step < run.max_steps:
        for xb, yb in loader:
            optimizer.zero_grad()
            light.backward(F.binary_cross_entropy_with_logits(model(xb).squeeze(-1), yb))
            light.clip_gradients(model, optimizer, max_norm=1.0)
            optimizer.step()
            step += 1
            if step == run.max_steps:
                break
    light.save(Path(run.workdir) / "fabric.ckpt", {"model": model, "optimizer": optimizer, "step": step})


def accelerate_plain(run):
    """The four lines of Accelerate's introduction, no accumulation, weights saved unwrapped."""
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    accelerator = Accelerator(cpu=True)
    x, y, *_ = load(run)
    model = small_net()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(TensorDataset(x, y), 8, shuffle=True))
    step = 0
    while step < run.max_steps:
        for xb, yb in loader:
            optimizer.zero_grad()
            accelerator.backward(F.binary_cross_entropy_with_logits(model(xb).squeeze(-1), yb))
            optimizer.step()
            step += 1
            if step == run.max_steps:
                break
    torch.save(accelerator.unwrap_model(model).state_dict(), Path(run.workdir) / "unwrapped.pt")
