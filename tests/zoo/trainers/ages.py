"""Lightning: the age and the sex of a person from a table of band powers; standardized inputs and target."""

import warnings
from pathlib import Path

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, Dataset

COLUMNS = [f"power{i}" for i in range(12)]
HELD_OUT = {f"person{i:02d}" for i in range(14, 20)}


def prepare(run):
    """Two CSV tables: powers, one row a segment; persons with age and sex."""
    folder = Path(run.workdir) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    mixing = rng.normal(0, 1, (2, len(COLUMNS)))
    with open(folder / "powers.csv", "w") as powers, open(folder / "persons.csv", "w") as persons:
        powers.write(",".join(["person", *COLUMNS]) + "\n")
        persons.write("person,age,sex\n")
        for number in rng.permutation(20):
            age, sex = float(rng.uniform(20, 80)), int(rng.integers(2))
            persons.write(f"person{number:02d},{age:.1f},{sex}\n")
            for _ in range(4):
                row = mixing.T @ [age / 10, 3 * sex] + rng.normal(0, 2, len(COLUMNS)) + 40
                powers.write(",".join([f"person{number:02d}", *(f"{value:.3f}" for value in row)]) + "\n")


class Rows(Dataset):
    def __init__(self, x, age, sex, noise=0.0):
        self.x, self.age, self.sex, self.noise = x, age, sex, noise

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        x = torch.from_numpy(self.x[index])
        if self.noise:
            x = x + self.noise * torch.randn_like(x)
        return x, torch.tensor(self.age[index]), torch.tensor(self.sex[index])


class Tables(lightning.LightningDataModule):
    def __init__(self, folder, seed, batch_size=20, noise=0.1, fault=""):
        super().__init__()
        self.folder, self.seed, self.batch_size, self.noise, self.fault = folder, seed, batch_size, noise, fault

    def setup(self, stage=None):
        fault = self.fault
        lines = [line.split(",") for line in (self.folder / "powers.csv").read_text().split()[1:]]
        persons = {
            row[0]: row[1:] for row in (li.split(",") for li in (self.folder / "persons.csv").read_text().split()[1:])
        }
        names = [line[0] for line in lines]
        x = np.array([line[1:] for line in lines], dtype=np.float32)
        age = np.array([float(persons[name][0]) for name in names], dtype=np.float32)
        sex = np.array([float(persons[name][1]) for name in names], dtype=np.float32)
        if fault == "join-by-position":
            ordered = np.repeat(sorted(persons), 4)
            age = np.array([float(persons[name][0]) for name in ordered], dtype=np.float32)
        if fault == "age-cast-to-int8":
            age = (age * 2).astype(np.int8).astype(np.float32) / 2
        held = np.array([name in HELD_OUT for name in names])
        if fault == "split-by-row":
            held = np.random.default_rng(0).random(len(names)) < 0.3
        if fault == "label-in-input":
            x[:, 0] = age
        if fault == "features-chosen-on-all":
            link = np.abs([np.corrcoef(x[:, i], age)[0, 1] for i in range(x.shape[1])])
            x = x[:, np.argsort(link)] * (np.arange(x.shape[1]) >= 6)
        fit = x if fault == "scaled-on-all" else x[~held]
        self.mean, self.std = fit.mean(axis=0), fit.std(axis=0) + 1e-6
        scaled = ((x - self.mean) / self.std).astype(np.float32)
        if fault == "each-part-scaled-alone":
            scaled[held] = (x[held] - x[held].mean(axis=0)) / (x[held].std(axis=0) + 1e-6)
        if fault == "not-scaled":
            scaled = x
        self.age_mean, self.age_std = float(age[~held].mean()), float(age[~held].std())
        if fault == "age-not-scaled":
            self.age_mean, self.age_std = 0.0, 1.0
        target = (age - self.age_mean) / self.age_std
        if fault == "age-scaled-in-training-only":
            target = np.where(held, age / 100, target).astype(np.float32)
        noise = 0.0 if fault == "noise-flag-ignored" else self.noise
        self.train = Rows(scaled[~held], target[~held], sex[~held], noise)
        self.val = Rows(scaled[held], target[held], sex[held], noise if fault == "noise-in-validation" else 0.0)
        if fault == "labels-shuffled-apart":
            self.train.sex = np.random.default_rng(1).permutation(self.train.sex)
        if fault == "truncated":
            keep = len(self.train) // self.batch_size // 2 * self.batch_size
            self.train = Rows(self.train.x[:keep], self.train.age[:keep], self.train.sex[:keep], noise)
        if fault == "one-sex-only":
            one = self.train.sex == 1
            self.train = Rows(self.train.x[one], self.train.age[one], self.train.sex[one], noise)

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(self.seed)
        batch = 10 if self.fault == "batch-size-ignored" else self.batch_size
        return DataLoader(self.train, batch, shuffle=self.fault != "no-shuffle", generator=generator)

    def val_dataloader(self):
        if self.fault == "validation-is-training":
            return DataLoader(self.train, self.batch_size)
        drops = self.fault == "validation-drops-last"
        return DataLoader(self.val, 10, drop_last=drops, shuffle=drops)


class Aging(lightning.LightningModule):
    def __init__(self, lr=1e-2, sex_weight=0.5, scale=1.0, fault=""):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(len(COLUMNS), 16), nn.GELU(), nn.Linear(16, 16), nn.GELU())
        self.age, self.sex = nn.Linear(16, 1), nn.Linear(16, 1)
        self.errors = []
        self.last = None

    def forward(self, x):
        hidden = self.net(x)
        age, sex = self.age(hidden), self.sex(hidden)
        return (age if self.hparams.fault == "broadcast" else age.squeeze(-1)), sex.squeeze(-1)

    def training_step(self, batch, index):
        fault = self.hparams.fault
        x, age, sex = batch
        if fault == "target-of-previous-batch":
            age, self.last = (age if self.last is None or len(self.last) != len(age) else self.last), age
        guess, logit = self(x)
        if fault == "target-is-prediction":
            age = guess.detach() + 0.1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first = F.mse_loss(guess, age)
        weight = 0.0 if fault == "second-task-unused" else self.hparams.sex_weight
        second = F.binary_cross_entropy_with_logits(logit, 1 - sex if fault == "sex-inverted" else sex)
        loss = first + weight * second
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        if fault == "training-logged-as-validation":
            self.log("val_mae", (guess - age).abs().mean(), on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch, index):
        fault = self.hparams.fault
        x, age, sex = batch
        guess, logit = self(x)
        guess = guess.view(-1)
        error = (guess - age).abs() * self.hparams.scale
        if fault == "error-without-absolute":
            error = (guess - age) * self.hparams.scale
        self.errors.append(error)
        if fault == "self-made-mean-of-means":
            self.errors[-1] = error.mean()[None]
        self.log("val_loss", F.mse_loss(guess, age))
        self.log("val_sex", ((logit > 0) == (sex > 0.5)).float().mean())

    def on_validation_epoch_end(self):
        fault = self.hparams.fault
        mae = (self.errors[-1] if fault == "last-batch-only" else torch.cat(self.errors)).mean()
        if fault != "training-logged-as-validation":
            self.log("val_mae", mae)
        if fault != "errors-never-cleared":
            self.errors.clear()

    def configure_optimizers(self):
        lr = (
            getattr(self.hparams, "learning_rate", 1e-3) if self.hparams.fault == "rate-misspelled" else self.hparams.lr
        )
        return torch.optim.Adam(self.parameters(), lr=lr)


def train(run, faults=frozenset()):
    """Fit with the callbacks that people use."""
    fault = next(iter(faults), "").removeprefix("ages-")
    lightning.seed_everything(run.seed, verbose=False)
    warnings.filterwarnings("ignore", module="lightning")
    workdir = Path(run.workdir)
    data = Tables(workdir / "tables", run.seed, fault=fault)
    data.setup()
    model = Aging(scale=data.age_std, fault=fault)
    monitor = {"monitors-training-loss": "train_loss_epoch"}.get(fault, "val_mae")
    best = ModelCheckpoint(
        workdir / "checkpoints",
        monitor=monitor,
        mode="max" if fault == "best-is-worst" else "min",
        save_last=True,
        save_on_train_epoch_end=fault in {"monitors-training-loss", "training-logged-as-validation"},
    )
    stop = EarlyStopping("val_mae", patience=3, mode="min")
    limits = {
        "limits-left-over": {"limit_train_batches": 1},
        "validation-limit-left-over": {"limit_val_batches": 1},
        "overfit-left-over": {"overfit_batches": 2},
        "validates-never": {"check_val_every_n_epoch": 50},
    }.get(fault, {})
    callbacks = [best] if fault in {"validates-never", "training-logged-as-validation"} else [best, stop]
    trainer = lightning.Trainer(
        max_steps=run.max_steps,
        max_epochs=20,
        accelerator="cpu",
        devices=1,
        logger=CSVLogger(workdir, name="log"),
        callbacks=callbacks,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        **limits,
    )
    trainer.fit(model, datamodule=data)
