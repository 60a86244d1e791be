"""Samples stream out of tar shards: shards split over workers, a shuffle buffer, an epoch by number of batches, resumable nothing."""

import io
import json
import logging
import os
import random
import tarfile
from contextlib import suppress

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

SHARDS = os.environ.get("SHARD_FOLDER", "shards")


def write_shards():
    os.makedirs(SHARDS)
    rng = np.random.default_rng(6)
    for s in range(5):
        with tarfile.open(f"{SHARDS}/{'val' if s == 4 else 'train'}-{s:04d}.tar", "w") as tar:
            for i in range(24):
                label = int(rng.integers(0, 3))
                signal = rng.normal(size=(2, 40)).astype(np.float32)
                signal[:, 10 * label : 10 * label + 15] += 2
                for name, blob in (
                    (f"{s:02d}{i:04d}.npy", signal.tobytes()),
                    (f"{s:02d}{i:04d}.json", json.dumps({"cls": label}).encode()),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(blob)
                    tar.addfile(info, io.BytesIO(blob))


def tar_samples(urls):
    for url in urls:
        with tarfile.open(url) as tar:
            sample = {}
            for member in tar:
                key, ext = member.name.split(".")
                if sample and sample["__key__"] != key:
                    yield sample
                    sample = {}
                sample["__key__"] = key
                sample[ext] = tar.extractfile(member).read()
            if sample:
                yield sample


def shuffle(stream, size, rng):
    buffer = []
    for sample in stream:
        buffer.append(sample)
        if len(buffer) >= size:
            yield buffer.pop(rng.randrange(len(buffer)))
    rng.shuffle(buffer)
    yield from buffer


class WebData(IterableDataset):
    def __init__(self, prefix, training, seed):
        self.urls = sorted(f"{SHARDS}/{name}" for name in os.listdir(SHARDS) if name.startswith(prefix))
        self.training, self.seed, self.epoch = training, seed, 0

    def __iter__(self):
        worker = get_worker_info()
        urls = list(self.urls)
        if self.training:
            random.Random(self.seed + self.epoch).shuffle(urls)
        if worker is not None:
            urls = urls[worker.id :: worker.num_workers]
        stream = tar_samples(urls)
        if self.training:
            stream = shuffle(stream, 12, random.Random(self.seed + self.epoch + 100 * (worker.id if worker else 0)))
        for sample in stream:
            x = torch.from_numpy(np.frombuffer(sample["npy"], np.float32).reshape(2, 40).copy())
            yield sample["__key__"], x, json.loads(sample["json"])["cls"]


def main():
    logging.basicConfig(level="INFO", filename="train.log")
    if not os.path.exists(SHARDS):
        write_shards()
    torch.manual_seed(0)
    data, held_out = WebData("train", True, 0), WebData("val", False, 0)
    loader, val_loader = (
        DataLoader(data, batch_size=8, num_workers=2),
        DataLoader(held_out, batch_size=24, num_workers=1),
    )
    net = nn.Sequential(
        nn.BatchNorm1d(2), nn.Conv1d(2, 12, 7, padding=3), nn.Mish(), nn.AvgPool1d(5), nn.Flatten(), nn.LazyLinear(3)
    )
    net(torch.zeros(2, 2, 40))
    opt = torch.optim.Adagrad(net.parameters(), lr=0.02)
    sched = torch.optim.lr_scheduler.ExponentialLR(opt, 0.9)
    for epoch in range(3):
        data.epoch = epoch
        net.train()
        for _keys, x, y in loader:
            loss = nn.functional.multi_margin_loss(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            logging.info("loss %.4f", loss.item())
        sched.step()
        net.eval()
        with torch.inference_mode():
            right = torch.cat([net(x).argmax(1) == y for _, x, y in val_loader])
        logging.info("epoch %d accuracy %.3f", epoch, right.float().mean())
        with suppress(FileNotFoundError):
            os.replace("model.pt", "model_previous.pt")
        torch.save(
            {"net": net.state_dict(), "opt": opt.state_dict(), "sched": sched.state_dict(), "epoch": epoch}, "model.pt"
        )


if __name__ == "__main__":
    main()
