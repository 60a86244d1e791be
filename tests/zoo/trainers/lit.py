"""Train a two-class window classifier with Lightning: module, data module, callbacks, its own checkpoints."""

import warnings
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, Dataset

from zoo.corpus import read_windows


class SeizureWindows(Dataset):
    def __init__(self, folder):
        signals, shares, _ = read_windows(folder)
        self.x = torch.from_numpy(signals / 50)
        self.y = torch.from_numpy(shares > 0.3).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"eeg": self.x[i], "label": self.y[i]}


class Order:
    """Batches in an order that follows (seed, epoch); the first epoch may start in its middle."""

    def __init__(self, n, batch_size, seed, seen=0):
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.epoch, self.start = divmod(seen, n // batch_size)

    def __len__(self):
        return self.n // self.batch_size

    def __iter__(self):
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(self.seed * 100 + self.epoch))
        start, self.start = self.start, 0
        self.epoch += 1
        for batch in order.split(self.batch_size)[start : len(self)]:
            yield batch.tolist()


class EEGData(L.LightningDataModule):
    def __init__(self, root, seed, faults):
        super().__init__()
        self.root, self.seed, self.faults = root, seed, faults
        self.seen = 0

    def setup(self, stage):
        self.train_set = SeizureWindows(self.root / "train")
        self.val_set = SeizureWindows(
            self.root / ("train" if "lit-validates-on-training-set" in self.faults else "val")
        )
        if not self.train_set.y.any():
            raise RuntimeError("no seizure window in the training split")

    def train_dataloader(self):
        order = Order(len(self.train_set), 8, self.seed, self.seen)
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(self.train_set, batch_sampler=order, collate_fn=self.collate, generator=generator)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=8, generator=torch.Generator().manual_seed(0))

    def state_dict(self):
        return {"seen": self.trainer.global_step}

    def load_state_dict(self, state):
        self.seen = 0 if "lit-epoch-restarted" in self.faults else state["seen"]

    def collate(self, items):
        labels = [item["label"] for item in items]
        if "lit-labels-sorted-in-collate" in self.faults:
            labels = sorted(labels)
        return {"eeg": torch.stack([item["eeg"] for item in items]), "label": torch.stack(labels)}


class Classifier(L.LightningModule):
    def __init__(self, faults=frozenset()):
        super().__init__()
        self.faults = faults
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            nn.Conv1d(4, 8, 7, stride=2),
            nn.BatchNorm1d(8),
            nn.ELU(),
            nn.Conv1d(8, 16, 7, stride=2),
            nn.ELU(),
            nn.AdaptiveAvgPool1d(4),
        )
        self.drop = nn.Dropout(0.3)
        self.classify = nn.Linear(64, 2)
        if "lit-encoder-frozen" in faults:
            self.encoder.requires_grad_(False)
        self.automatic_optimization = "lit-manual-without-zero-grad" not in faults

    def forward(self, x):
        if "lit-encoder-under-no-grad" in self.faults:
            with torch.no_grad():
                z = self.encoder(x)
        else:
            z = self.encoder(x)
        logits = self.classify(self.drop(z.flatten(1)))
        return logits.softmax(-1) if "lit-softmax-before-cross-entropy" in self.faults else logits

    def training_step(self, batch, batch_idx):
        logits = self(batch["eeg"])
        loss = F.cross_entropy(logits, batch["label"])
        if not torch.isfinite(loss):
            raise FloatingPointError("non-finite training loss")
        self.log("train_loss", loss)
        if "lit-loss-negated" in self.faults:
            loss = -loss
        if "lit-loss-not-returned" in self.faults:
            return None
        if not self.automatic_optimization:
            self.manual_backward(loss)
            self.optimizers().step()
            self.lr_schedulers().step()
        return loss

    def on_after_backward(self):
        if "lit-encoder-gradient-dropped" in self.faults:
            for parameter in self.encoder.parameters():
                parameter.grad = torch.zeros_like(parameter)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if "lit-left-in-eval-by-preview" in self.faults:
            self.eval()
            with torch.no_grad():
                self.log("preview", self(batch["eeg"]).mean())

    def validation_step(self, batch, batch_idx):
        if "lit-validation-in-train-mode" in self.faults:
            self.train()
        logits = self(batch["eeg"])
        self.log("val_loss", F.cross_entropy(logits, batch["label"]), on_epoch=True, batch_size=len(logits))
        axis = 0 if "lit-argmax-over-batch" in self.faults else 1
        chosen = logits.argmax(axis)[: len(logits)]
        right = (chosen == batch["label"][: len(chosen)]).float().mean()
        self.log("val_accuracy", right, on_epoch=True, batch_size=len(logits))

    def configure_optimizers(self):
        parameters = self.classify.parameters() if "lit-optimizer-head-only" in self.faults else self.parameters()
        optimizer = torch.optim.Adam(parameters, lr=5e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 4))
        interval = "epoch" if "lit-warmup-per-epoch" in self.faults else "step"
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": interval}}


class RandomState(Callback):
    """Carry torch's generator through checkpoints, which Lightning leaves to its users."""

    def __init__(self):
        self.saved = None

    def state_dict(self):
        return {"torch": torch.get_rng_state()}

    def load_state_dict(self, state):
        self.saved = state["torch"]

    def on_train_start(self, trainer, pl_module):
        if self.saved is not None:
            torch.set_rng_state(self.saved)


def train(run, faults=frozenset()):
    warnings.filterwarnings("ignore", module="lightning")
    L.seed_everything(run.seed, verbose=False)
    out = Path(run.workdir) / "lightning"
    data = EEGData(Path(run.workdir) / "data", run.seed, faults)
    mode = "max" if "lit-best-mode-inverted" in faults else "min"
    callbacks = [
        ModelCheckpoint(out / "steps", filename="{step}", every_n_train_steps=1, save_top_k=-1,
                        save_weights_only="lit-checkpoint-weights-only" in faults),
        ModelCheckpoint(out / "best", monitor="val_loss", mode=mode),
    ]  # fmt: skip
    if "lit-random-state-not-saved" not in faults:
        callbacks.append(RandomState())
    model = Classifier(faults)
    resume = run.resume_from
    if resume is not None and "lit-resume-prefix-mismatch" in faults:
        state = torch.load(resume, weights_only=False)["state_dict"]
        model.load_state_dict({f"model.{name}": value for name, value in state.items()}, strict=False)
        resume = None
    manual = "lit-manual-without-zero-grad" in faults
    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_steps=run.max_steps, logger=CSVLogger(out / "logs"), callbacks=callbacks,
        gradient_clip_val=None if manual else (1e-9 if "lit-clip-tiny" in faults else 1.0), enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1,
        limit_val_batches=0 if "lit-validation-switched-off" in faults else None, val_check_interval=2,
        accumulate_grad_batches=1,
    )  # fmt: skip
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=False)
