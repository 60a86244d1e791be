"""Healthy trainers that keep and find their state in unusual ways."""

import json
import logging
import os
import pickle
import queue
import threading
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler, TensorDataset

from zoo.healthy.patients import read


def tensors(run, numbers):
    x, y, _ = read(run, numbers)
    return torch.from_numpy(x), torch.from_numpy(y)


class Place(Sampler):
    """Says where it stands and can be put there."""

    def __init__(self, size, seed):
        self.size, self.seed, self.epoch, self.taken = size, seed, 0, 0

    def __iter__(self):
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        for row in order[self.taken :]:
            yield int(row)

    def __len__(self):
        return self.size

    def state_dict(self):
        return {"epoch": self.epoch, "taken": self.taken}

    def load_state_dict(self, state):
        self.epoch, self.taken = state["epoch"], state["taken"]


class Model(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.front = nn.Sequential(nn.Conv1d(4, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ELU(), nn.AvgPool1d(4))
        self.drop = nn.Dropout(dropout)
        self.rnn = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        h, _ = self.rnn(self.drop(self.front(x)).transpose(1, 2))
        return self.head(h[:, -1])


def evaluate(model, loader):
    model.eval()
    with torch.no_grad():
        out = [(F.cross_entropy(model(x), y, reduction="sum").item(), len(y)) for x, y in loader]
    model.train()
    return sum(a for a, _ in out) / sum(b for _, b in out)


def fit(run, save, load, dropout=0.0, every=2, after=None):
    """Train with a sampler that knows its place; ``save`` and ``load`` decide what the files look like."""
    torch.manual_seed(run.seed)
    train = TensorDataset(*tensors(run, range(4)))
    held = DataLoader(TensorDataset(*tensors(run, (4, 5))), batch_size=8)
    model = Model(dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, (k + 1) / 4))
    place = Place(len(train), run.seed)
    things = {"model": model, "optimizer": optimizer, "schedule": schedule, "place": place, "step": 0}
    if run.resume_from is not None:
        load(run.resume_from, things)
    while things["step"] < run.max_steps:
        for x, y in DataLoader(train, batch_size=8, sampler=place, generator=torch.Generator()):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
            things["step"] += 1
            place.taken += len(x)
            if place.taken >= len(train):
                place.epoch, place.taken = place.epoch + 1, 0
            if things["step"] % every == 0:
                things["loss"] = evaluate(model, held)
                save(things)
            if things["step"] == run.max_steps:
                break
    if after is not None:
        after(things)
    return things


def pieces(run):
    """A folder a checkpoint: weights in two safetensors shards, the rest beside them, a manifest, one rename."""

    def save(things):
        folder = run.workdir / f"checkpoint-{things['step']}"
        scratch = run.workdir / f".checkpoint-{things['step']}"
        scratch.mkdir()
        weights = things["model"].state_dict()
        names = sorted(weights)
        for number, part in enumerate((names[::2], names[1::2])):
            save_file({name: weights[name].contiguous() for name in part}, scratch / f"shard{number}.safetensors")
        torch.save(things["optimizer"].state_dict(), scratch / "optimizer.pt")
        torch.save(torch.get_rng_state(), scratch / "rng.pt")
        rest = {"schedule": things["schedule"].state_dict(), "place": things["place"].state_dict()}
        rest["schedule"].pop("lr_lambdas")
        (scratch / "trainer.json").write_text(json.dumps({**rest, "step": things["step"]}))
        scratch.rename(folder)

    def load(folder, things):
        folder = Path(folder)
        weights = {}
        for shard in sorted(folder.glob("shard*.safetensors")):
            weights.update(load_file(shard))
        things["model"].load_state_dict(weights)
        things["optimizer"].load_state_dict(torch.load(folder / "optimizer.pt"))
        rest = json.loads((folder / "trainer.json").read_text())
        things["schedule"].load_state_dict({**rest["schedule"], "lr_lambdas": [None]})
        things["place"].load_state_dict(rest["place"])
        things["step"] = rest["step"]
        torch.set_rng_state(torch.load(folder / "rng.pt"))

    fit(run, save, load, dropout=0.1)


def background(run):
    """A thread writes what the loop hands over as copies; the loop goes on; the last write is waited for."""
    box = queue.Queue()

    def write():
        while (item := box.get()) is not None:
            path, content = item
            with open(f"{path}.tmp", "wb") as file:
                pickle.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(f"{path}.tmp", path)

    thread = threading.Thread(target=write)
    thread.start()

    def copied(state):
        if isinstance(state, torch.Tensor):
            return state.detach().clone()
        if isinstance(state, dict):
            return {key: copied(value) for key, value in state.items()}
        return [copied(value) for value in state] if isinstance(state, list) else state

    def save(things):
        content = {name: copied(things[name].state_dict()) for name in ("model", "optimizer", "place")}
        content["schedule"] = {k: v for k, v in things["schedule"].state_dict().items() if k != "lr_lambdas"}
        content["step"] = things["step"]
        box.put((run.workdir / "latest.pickle", content))

    def load(path, things):
        content = pickle.loads(Path(path).read_bytes())
        for name in ("model", "optimizer", "place"):
            things[name].load_state_dict(content[name])
        things["schedule"].load_state_dict({**content["schedule"], "lr_lambdas": [None]})
        things["step"] = content["step"]

    try:
        fit(run, save, load, every=3)
    finally:
        box.put(None)
        thread.join()


def newest(run):
    """Resumes by itself from the newest file in its folder; a stop flag, json lines and logging for the record."""
    log = logging.getLogger("newest")
    handler = logging.FileHandler(run.workdir / "train.log")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    source = run.resume_from
    if source is None:
        found = sorted((run.workdir / "keep").glob("*.pt")) if (run.workdir / "keep").exists() else []
        source = found[-1] if found else None
    (run.workdir / "keep").mkdir(exist_ok=True)

    def save(things):
        state = {name: things[name].state_dict() for name in ("model", "optimizer", "place")}
        scratch = run.workdir / "keep" / "tmp"
        torch.save({**state, "warm": things["schedule"].last_epoch, "step": things["step"]}, scratch)
        scratch.rename(run.workdir / "keep" / f"{things['step']:06}.pt")
        with open(run.workdir / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": things["step"], "loss": things["loss"]}) + "\n")
        log.info("step %d loss %.4f", things["step"], things["loss"])

    def load(path, things):
        state = torch.load(path, weights_only=True)
        for name in ("model", "optimizer", "place"):
            things[name].load_state_dict(state[name])
        things["schedule"].last_epoch = state["warm"]
        things["step"] = state["step"]

    from dataclasses import replace

    try:
        fit(replace(run, resume_from=source), save, load)
    finally:
        log.removeHandler(handler)
        handler.close()
