"""Audio tagging in the manner of PANNs: `main.py train --workspace=. --balanced=balanced --augmentation=mixup`."""

import argparse
import logging
import os
import pickle
import time
import wave

import config
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sklearn import metrics


def make_clips(folder):
    os.makedirs(folder)
    rng = np.random.default_rng(11)
    t = np.arange(config.clip_samples) / config.sample_rate
    rows = []
    for i in range(60):
        target = (rng.random(config.classes_num) < 0.35).astype(int)
        if not target.any():
            target[rng.integers(config.classes_num)] = 1
        x = 0.02 * rng.normal(size=t.size)
        if target[0]:
            x += 0.3 * np.sin(2 * np.pi * 50 * t)
        if target[1]:
            x[:: rng.integers(90, 110)] += 0.8
        if target[2]:
            x += 0.2 * rng.normal(size=t.size)
        if target[3]:
            x += 0.3 * np.sin(2 * np.pi * (100 + 150 * t) * t)
        name = f"Y{i:05d}.wav"
        with wave.open(os.path.join(folder, name), "wb") as f:
            f.setnchannels(1), f.setsampwidth(2), f.setframerate(config.sample_rate)
            f.writeframes((x.clip(-1, 1) * 32767).astype("<i2").tobytes())
        rows.append(
            f"{name},{';'.join(lb for lb, on in zip(config.labels, target, strict=True) if on)},{'eval' if i >= 44 else 'train'}"
        )
    with open(os.path.join(folder, "meta.csv"), "w") as f:
        f.write("\n".join(["name,labels,split", *rows]) + "\n")


def pack(folder, split):
    waves, targets = [], []
    with open(os.path.join(folder, "meta.csv")) as f:
        for line in f.read().splitlines()[1:]:
            name, labels, part = line.split(",")
            if part != split:
                continue
            with wave.open(os.path.join(folder, name)) as w:
                waves.append(np.frombuffer(w.readframes(w.getnframes()), "<i2"))
            target = np.zeros(config.classes_num, np.float32)
            target[[config.lb_to_ix[lb] for lb in labels.split(";")]] = 1
            targets.append(target)
    return {"waveform": np.stack(waves), "target": np.stack(targets)}


class BalancedTrainSampler:
    def __init__(self, data, batch_size, seed=1234):
        self.rng = np.random.RandomState(seed)
        self.batch_size = batch_size
        self.per_class = [np.where(data["target"][:, k] == 1)[0] for k in range(config.classes_num)]
        self.queue, self.pointers = [], [0] * config.classes_num
        for each in self.per_class:
            self.rng.shuffle(each)

    def __iter__(self):
        while True:
            batch = []
            while len(batch) < self.batch_size:
                if not self.queue:
                    self.queue = self.rng.permutation(config.classes_num).tolist()
                k = self.queue.pop(0)
                batch.append(self.per_class[k][self.pointers[k]])
                self.pointers[k] += 1
                if self.pointers[k] >= len(self.per_class[k]):
                    self.pointers[k] = 0
                    self.rng.shuffle(self.per_class[k])
            yield batch


class Cnn4(nn.Module):
    def __init__(self, mel_bins=16):
        super().__init__()
        bank = torch.zeros(65, mel_bins)
        for m, edges in enumerate(np.array_split(np.arange(65), mel_bins)):
            bank[edges, m] = 1.0 / len(edges)
        self.register_buffer("melW", bank)
        self.register_buffer("window", torch.hann_window(128))
        self.bn0, self.conv1, self.conv2 = (
            nn.BatchNorm2d(mel_bins),
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
        )
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.fc1, self.fc_audioset = nn.Linear(8, 16), nn.Linear(16, config.classes_num)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc_audioset):
            nn.init.xavier_uniform_(layer.weight)
        self.fc_audioset.bias.data.fill_(0.0)

    def forward(self, input, mixup_lambda=None):
        spec = torch.stft(input, 128, 64, window=self.window, return_complex=True).abs().pow(2)
        x = 10 * torch.log10(torch.clamp(spec.transpose(1, 2) @ self.melW, min=1e-10))[:, None]
        x = self.bn0(x.transpose(1, 3)).transpose(1, 3)
        if self.training:
            start = np.random.randint(0, 12)
            x = x.clone()
            x[:, :, start : start + 3] = 0
        if self.training and mixup_lambda is not None:
            x = do_mixup(x, mixup_lambda)
        x = F.avg_pool2d(F.relu_(self.bn1(self.conv1(x))), 2)
        x = F.dropout(x, p=0.2, training=self.training)
        x = F.relu_(self.bn2(self.conv2(x))).mean(3)
        x = x.max(2).values + x.mean(2)
        embedding = F.dropout(F.relu_(self.fc1(x)), p=0.5, training=self.training)
        return {"clipwise_output": torch.sigmoid(self.fc_audioset(embedding)), "embedding": embedding}


def do_mixup(x, lam):
    return (x[0::2].transpose(0, -1) * lam[0::2] + x[1::2].transpose(0, -1) * lam[1::2]).transpose(0, -1)


def evaluate(model, data):
    model.eval()
    outputs = []
    for start in range(0, len(data["target"]), 8):
        with torch.no_grad():
            outputs.append(
                model(torch.Tensor(data["waveform"][start : start + 8] / 32767.0))["clipwise_output"].numpy()
            )
    outputs = np.concatenate(outputs)
    return {
        "average_precision": metrics.average_precision_score(data["target"], outputs, average=None),
        "auc": metrics.roc_auc_score(data["target"], outputs, average=None),
    }


def train(args):
    clips = os.path.join(args.workspace, "clips")
    if not os.path.exists(clips):
        make_clips(clips)
    data, held_out = pack(clips, "train"), pack(clips, "eval")
    folder = os.path.join(
        args.workspace,
        "checkpoints",
        os.path.splitext(os.path.basename(__file__))[0],
        f"balanced={args.balanced},batch_size={args.batch_size}",
    )
    os.makedirs(folder, exist_ok=True)
    model = Cnn4()
    optimizer = optim.Adam(
        model.parameters(), lr=args.learning_rate, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0, amsgrad=True
    )
    mix = "mixup" in args.augmentation
    sampler = BalancedTrainSampler(data, args.batch_size * 2 if mix else args.batch_size)
    lambdas = np.random.RandomState(1234)
    statistics, iteration, began = {"bal": [], "test": []}, 0, time.time()
    for batch in sampler:
        if iteration % 5 == 0 and iteration > 0:
            stats = evaluate(model, held_out)
            statistics["test"].append((iteration, stats))
            logging.info("Validate test mAP: %.3f", np.mean(stats["average_precision"]))
            with open(os.path.join(folder, "statistics.pkl"), "wb") as f:
                pickle.dump(statistics, f)
            logging.info("iteration: %d, train time: %.3f s", iteration, time.time() - began)
            torch.save(
                {"iteration": iteration, "model": model.state_dict(), "sampler": sampler.rng.get_state()[1].tolist()},
                os.path.join(folder, f"{iteration}_iterations.pth"),
            )
        lam = (
            torch.Tensor(
                [v for _ in range(len(batch) // 2) for one in [lambdas.beta(1.0, 1.0)] for v in (one, 1.0 - one)]
            )
            if mix
            else None
        )
        x, y = torch.Tensor(data["waveform"][batch] / 32767.0), torch.Tensor(data["target"][batch])
        model.train()
        output = model(x, lam)
        target = do_mixup(y, lam) if mix else y
        loss = F.binary_cross_entropy(output["clipwise_output"], target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if iteration == args.early_stop:
            break
        iteration += 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Example of parser.")
    subparsers = parser.add_subparsers(dest="mode")
    parser_train = subparsers.add_parser("train")
    parser_train.add_argument("--workspace", type=str, required=True)
    parser_train.add_argument("--balanced", type=str, default="none", choices=["none", "balanced"])
    parser_train.add_argument("--augmentation", type=str, default="none", choices=["none", "mixup"])
    parser_train.add_argument("--batch_size", type=int, default=6)
    parser_train.add_argument("--learning_rate", type=float, default=1e-3)
    parser_train.add_argument("--early_stop", type=int, default=20)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    if args.mode == "train":
        train(args)
