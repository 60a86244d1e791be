"""Lightning as its documentation shows it: data module, metrics of torchmetrics, schedule, callbacks with state."""

import copy

import lightning as L
import torch
import torchmetrics
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Signals(L.LightningDataModule):
    def setup(self, stage=None):
        generator = torch.Generator().manual_seed(3)
        signal = torch.randn(44, 4, 32, generator=generator)
        label = (signal[:, 0].mean(-1) > 0).float()
        self.train_set = TensorDataset(signal[:24], label[:24])
        self.validation_set = TensorDataset(signal[24:], label[24:])

    def train_dataloader(self):
        order = torch.Generator().manual_seed(self.trainer.current_epoch)  # so that a resumed run goes on in order
        return DataLoader(self.train_set, 8, shuffle=True, generator=order)

    def val_dataloader(self):
        return DataLoader(self.validation_set, 8)


class Detector(L.LightningModule):
    def __init__(self, faults):
        super().__init__()
        self.faults = faults
        self.automatic_optimization = "lit-manual-never-clears" not in faults
        self.encoder = nn.Sequential(nn.Conv1d(4, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 1)
        self.accuracy = torchmetrics.classification.BinaryAccuracy()
        self.first_loss = None

    def forward(self, signal):
        return self.head(self.encoder(signal).mean(-1)).squeeze(-1)

    def training_step(self, batch, index):
        signal, label = batch
        loss = F.binary_cross_entropy_with_logits(self(signal), label)
        self.log("train_loss", loss)
        if not self.automatic_optimization:
            self.manual_backward(loss)
            self.optimizers().step()
            self.lr_schedulers().step()
            return None
        return loss

    def validation_step(self, batch, index):
        signal, label = batch
        logits = self(signal)
        loss = F.binary_cross_entropy_with_logits(logits, label)
        if self.first_loss is None:
            self.first_loss = loss.item()
        self.log("val_loss", self.first_loss if "lit-monitors-stale-loss" in self.faults else loss)
        self.accuracy.update(logits, label.int())

    def on_validation_epoch_end(self):
        self.log("val_accuracy", self.accuracy.compute())
        self.accuracy.reset()

    def on_validation_start(self):
        if "lit-validation-freezes" in self.faults:
            self.encoder.requires_grad_(False)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1e-2, total_steps=self.trainer.estimated_stepping_batches
        )
        interval = "epoch" if "lit-one-cycle-by-epoch" in self.faults else "step"
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": interval}}


class Average(Callback):
    """A moving average of the weights, with its state in the checkpoint, and in place of the weights in validation."""

    def __init__(self, faults):
        self.faults, self.shadow, self.kept = faults, None, None

    def on_fit_start(self, trainer, module):
        self.shadow = self.shadow or copy.deepcopy(module.state_dict())

    def on_train_batch_end(self, trainer, module, *rest):
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.shadow[name].lerp_(value, 0.1)
            else:
                self.shadow[name].copy_(value)

    def on_validation_start(self, trainer, module):
        self.kept = copy.deepcopy(module.state_dict())
        module.load_state_dict(self.shadow)

    def on_validation_end(self, trainer, module):
        module.load_state_dict(self.kept)

    def state_dict(self):
        return {} if "lit-average-not-saved" in self.faults else {"shadow": self.shadow}

    def load_state_dict(self, state):
        self.shadow = state.get("shadow")


def train(run, faults=frozenset()):
    L.seed_everything(run.seed)
    keeper = ModelCheckpoint(
        run.workdir / "checkpoints", monitor="val_accuracy", mode="min" if "lit-keeps-the-worst" in faults else "max",
        save_top_k=1, save_last=True,
    )  # fmt: skip
    trainer = L.Trainer(
        max_steps=run.max_steps, accelerator="cpu", devices=1, logger=CSVLogger(run.workdir), log_every_n_steps=1,
        callbacks=[Average(faults), keeper], num_sanity_val_steps=0, reload_dataloaders_every_n_epochs=1, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Detector(faults), datamodule=Signals(), ckpt_path=run.resume_from)
