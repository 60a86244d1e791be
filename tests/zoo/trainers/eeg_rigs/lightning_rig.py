"""Lightning: is there a seizure in a two-second window? A YAML file, per-patient split, class weights, warm-up and cosine."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import torchmetrics
import yaml
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

CONFIG = """
data:
  root: data/chb
  channels: [FP1-F7, F7-T7, T7-P7, FP2-F8, F8-T8, T8-P8]
  window_sec: 2.0
  min_overlap: 0.5
  batch_size: 32
  jitter: 0.1
  val_patients: [chb05, chb06]
model:
  filters: 8
  dropout: 0.3
optim:
  lr: 2.0e-4
  weight_decay: 0.01
  warmup_epochs: 2
  total_epochs: 40
trainer:
  gradient_clip_val: 1.0
  precision: 32-true
"""


def prepare(run):
    """Six patients, two recordings each, as 16-bit integers with a gain; channels stand in another order in each file."""
    root = Path(run.workdir) / "data" / "chb"
    root.mkdir(parents=True, exist_ok=True)
    names = yaml.safe_load(CONFIG)["data"]["channels"]
    fs = 64
    for patient in range(1, 7):
        rng = np.random.default_rng(1000 + patient)
        for part in (1, 2):
            seconds = int(rng.integers(19, 23))
            t = np.arange(seconds * fs) / fs
            uv = 25 * np.sin(2 * np.pi * (8.5 + rng.normal()) * t + rng.uniform(0, 6, (6, 1))) + rng.normal(
                0, 12, (6, t.size)
            )
            uv *= np.linspace(0.6, 1.4, 6)[:, None]  # frontal channels are quieter here
            onsets, offsets = [], []
            if run.data != "no_positives":
                onset = float(rng.uniform(3, 8))
                onsets, offsets = [onset], [onset + 6.0]
                ictal = (t >= onset) & (t < onset + 6)
                uv[:3, ictal] += 90 * np.sign(np.sin(2 * np.pi * 3 * t[ictal]))
            gain = 0.5
            order = rng.permutation(6)
            signal = np.round(uv / gain).astype(np.int16)[order]
            if run.data == "non_finite":
                signal = signal.astype(np.float32)
                signal[2, 200:700] = np.nan
            np.savez(
                root / f"chb{patient:02d}_{part:02d}.npz",
                signal=signal, gain=gain, fs=fs, channels=np.array(names)[order], onsets=onsets, offsets=offsets,
            )  # fmt: skip
    (Path(run.workdir) / "config.yaml").write_text(CONFIG)


def read_recording(path, channels):
    with np.load(path) as file:
        signal = file["signal"].astype(np.float32) * float(file["gain"])
        names = [str(name) for name in file["channels"]]
        events = list(zip(file["onsets"], file["offsets"], strict=True))
        fs = int(file["fs"])
    signal = signal[[names.index(name) for name in channels]]
    if not np.isfinite(signal).all():
        raise ValueError(f"{path.name}: non-finite samples")
    return signal, fs, events


class Windows(Dataset):
    def __init__(self, recordings, cfg, mean, std, jitter=0.0):
        self.items = []
        self.jitter = jitter
        for signal, fs, events in recordings:
            size = int(cfg["window_sec"] * fs)
            signal = (signal - mean) / std
            for start in range(0, signal.shape[1] - size + 1, size):
                overlap = sum(max(0.0, min(start + size, b * fs) - max(start, a * fs)) for a, b in events) / size
                label = int(overlap >= cfg["min_overlap"])
                self.items.append((signal[:, start : start + size], label))

    @property
    def labels(self):
        return np.array([label for _, label in self.items])

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        window, label = self.items[index]
        x = torch.from_numpy(window.copy())
        if self.jitter:
            x = x * (1 + self.jitter * torch.randn(len(x), 1))
        return x, label


class Reshuffled(Sampler):
    """A random order that depends on seed and epoch alone; Lightning tells the epoch."""

    def __init__(self, size, seed):
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.size

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed * 1000 + self.epoch)
        yield from torch.randperm(self.size, generator=generator).tolist()


class ChbData(pl.LightningDataModule):
    def __init__(self, cfg, folder, seed):
        super().__init__()
        self.cfg, self.folder, self.seed = cfg, folder, seed

    def setup(self, stage=None):
        if hasattr(self, "train_set"):
            return
        paths = sorted((self.folder / self.cfg["root"]).glob("*.npz"))
        train_paths = [p for p in paths if p.stem[:5] not in self.cfg["val_patients"]]
        val_paths = [p for p in paths if p.stem[:5] in self.cfg["val_patients"]]
        train = [read_recording(p, self.cfg["channels"]) for p in train_paths]
        val = [read_recording(p, self.cfg["channels"]) for p in val_paths]
        both = np.concatenate([signal for signal, _, _ in train], axis=1)
        mean, std = both.mean(axis=1, keepdims=True), both.std(axis=1, keepdims=True)
        self.train_set = Windows(train, self.cfg, mean, std, jitter=self.cfg["jitter"])
        self.val_set = Windows(val, self.cfg, mean, std)
        counts = np.bincount(self.train_set.labels, minlength=2)
        if counts[1] == 0:
            raise RuntimeError("no seizure windows in the training set")
        self.class_weights = torch.tensor(counts.sum() / (2.0 * counts), dtype=torch.float32)

    def train_dataloader(self):
        sampler = Reshuffled(len(self.train_set), self.seed)
        seeds = torch.Generator().manual_seed(self.seed)  # for workers; resuming must not draw from the global one
        return DataLoader(self.train_set, self.cfg["batch_size"], sampler=sampler, drop_last=True, generator=seeds)

    def val_dataloader(self):
        return DataLoader(self.val_set, self.cfg["batch_size"])


class EEGNet(nn.Module):
    def __init__(self, channels, filters=8, dropout=0.5):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, filters, (1, 17), padding=(0, 8), bias=False),
            nn.BatchNorm2d(filters),
            nn.Conv2d(filters, 2 * filters, (channels, 1), groups=filters, bias=False),
            nn.BatchNorm2d(2 * filters),
            nn.ELU(),
            nn.AvgPool2d((1, 4)),
            nn.Dropout(dropout),
            nn.Conv2d(2 * filters, 2 * filters, (1, 9), padding=(0, 4), groups=2 * filters, bias=False),
            nn.Conv2d(2 * filters, 2 * filters, 1, bias=False),
            nn.BatchNorm2d(2 * filters),
            nn.ELU(),
            nn.AvgPool2d((1, 8)),
            nn.Dropout(dropout),
        )
        self.classifier = nn.LazyLinear(2)

    def forward(self, x):
        return self.classifier(self.features(x[:, None]).flatten(1))


class SeizureModule(pl.LightningModule):
    def __init__(self, cfg, class_weights):
        super().__init__()
        self.cfg = cfg
        self.net = EEGNet(6, filters=cfg["model"]["filters"], dropout=cfg["model"]["dropout"])
        self.net(torch.zeros(2, 6, 128))
        self.register_buffer("class_weights", class_weights)
        self.val_f1 = torchmetrics.F1Score(task="binary")
        self.val_auroc = torchmetrics.AUROC(task="binary")

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y, weight=self.class_weights)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y, weight=self.class_weights)
        self.val_f1.update(logits.argmax(dim=1), y)
        self.val_auroc.update(logits.float().softmax(dim=1)[:, 1], y)
        self.log("val_loss", loss, prog_bar=True)
        self.log("val_f1", self.val_f1)
        self.log("val_auroc", self.val_auroc)

    def configure_optimizers(self):
        o = self.cfg["optim"]
        optimizer = torch.optim.AdamW(self.parameters(), lr=o["lr"], weight_decay=o["weight_decay"])

        def factor(epoch):
            if epoch < o["warmup_epochs"]:
                return (epoch + 1) / o["warmup_epochs"]
            done = (epoch - o["warmup_epochs"]) / (o["total_epochs"] - o["warmup_epochs"])
            return 0.5 * (1 + math.cos(math.pi * done))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def on_save_checkpoint(self, checkpoint):
        checkpoint["torch_rng"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint):
        self.rng_to_restore = checkpoint["torch_rng"]

    def on_train_start(self):
        if hasattr(self, "rng_to_restore"):
            torch.set_rng_state(self.rng_to_restore)


def train(run):
    """Train whole epochs of two steps each."""
    warnings.filterwarnings("ignore")
    folder = Path(run.workdir)
    cfg = yaml.safe_load((folder / "config.yaml").read_text())
    pl.seed_everything(run.seed, workers=True, verbose=False)
    data = ChbData(cfg["data"], folder, run.seed)
    data.setup()
    module = SeizureModule(cfg, data.class_weights)
    checkpoints = folder / "checkpoints"
    best = ModelCheckpoint(checkpoints, filename="best", monitor="val_loss", mode="min", enable_version_counter=False)
    last = ModelCheckpoint(checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=max(1, run.max_steps // 2),
        precision=cfg["trainer"]["precision"],
        gradient_clip_val=cfg["trainer"]["gradient_clip_val"],
        callbacks=[best, last, LearningRateMonitor(logging_interval="epoch")],
        logger=CSVLogger(folder, name="logs"),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    ckpt_path = str(run.resume_from) if run.resume_from else None
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=False)
