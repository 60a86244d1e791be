"""Speech to letters: sorted first epoch, buckets afterwards, packed sequences, CTC, annealing per epoch, log by tensorboard-like file."""

import argparse
import json
import math
import os
import random

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset, Sampler

parser = argparse.ArgumentParser(description="training")
parser.add_argument("--train-manifest", default="data/train_manifest.csv")
parser.add_argument("--val-manifest", default="data/val_manifest.csv")
parser.add_argument("--labels-path", default="labels.json")
parser.add_argument("--batch-size", default=5, type=int)
parser.add_argument("--hidden-size", default=24, type=int)
parser.add_argument("--hidden-layers", default=2, type=int)
parser.add_argument("--epochs", default=5, type=int)
parser.add_argument("--lr", default=1e-2, type=float)
parser.add_argument("--max-norm", default=400, type=int)
parser.add_argument("--learning-anneal", default=1.1, type=float)
parser.add_argument("--no-shuffle", action="store_true")
parser.add_argument("--no-sortaGrad", dest="no_sorta_grad", action="store_true")
parser.add_argument("--save-folder", default="models/")
parser.add_argument("--seed", default=123456, type=int)


def create(labels, rng):
    for split, count in (("train", 30), ("val", 8)):
        os.makedirs(f"data/{split}", exist_ok=True)
        lines = []
        for i in range(count):
            text = "".join(rng.choice(list(labels[1:]), rng.integers(2, 6)))
            frames = np.concatenate(
                [np.eye(len(labels))[labels.index(c)][None].repeat(rng.integers(2, 5), 0) for c in text]
            )
            np.save(f"data/{split}/{i}.npy", (frames + 0.3 * rng.normal(size=frames.shape)).astype(np.float32))
            with open(f"data/{split}/{i}.txt", "w") as f:
                f.write(text)
            lines.append((len(frames), f"data/{split}/{i}.npy,data/{split}/{i}.txt"))
        with open(f"data/{split}_manifest.csv", "w") as f:
            f.write("\n".join(line for _, line in sorted(lines)))


class Speech(Dataset):
    def __init__(self, manifest, labels):
        with open(manifest) as f:
            self.ids = [line.strip().split(",") for line in f]
        self.map = {c: i for i, c in enumerate(labels)}

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        audio, transcript = self.ids[i]
        with open(transcript) as f:
            return torch.from_numpy(np.load(audio)), [self.map[c] for c in f.read()]


def collate(batch):
    batch = sorted(batch, key=lambda sample: len(sample[0]), reverse=True)
    inputs = torch.zeros(len(batch), len(batch[0][0]), batch[0][0].shape[1])
    percentages, sizes, targets = torch.FloatTensor(len(batch)), torch.IntTensor(len(batch)), []
    for i, (frames, target) in enumerate(batch):
        inputs[i, : len(frames)] = frames
        percentages[i] = len(frames) / len(batch[0][0])
        sizes[i] = len(target)
        targets.extend(target)
    return inputs, torch.IntTensor(targets), percentages, sizes


class BucketingSampler(Sampler):
    def __init__(self, data, batch_size):
        self.bins = [list(range(i, min(i + batch_size, len(data)))) for i in range(0, len(data), batch_size)]

    def __iter__(self):
        for ids in self.bins:
            np.random.shuffle(ids)
            yield ids

    def __len__(self):
        return len(self.bins)

    def shuffle(self, epoch):
        np.random.shuffle(self.bins)


class SequenceWise(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        t, n = x.size(0), x.size(1)
        return self.module(x.reshape(t * n, -1)).view(t, n, -1)


class BatchRNN(nn.Module):
    def __init__(self, size, hidden, norm):
        super().__init__()
        self.norm = SequenceWise(nn.BatchNorm1d(size)) if norm else None
        self.rnn = nn.GRU(size, hidden, bidirectional=True)

    def forward(self, x, lengths):
        if self.norm is not None:
            x = self.norm(x)
        x = nn.utils.rnn.pack_padded_sequence(x, lengths)
        x, _ = self.rnn(x)
        x, _ = nn.utils.rnn.pad_packed_sequence(x)
        return x.view(x.size(0), x.size(1), 2, -1).sum(2)


class DeepSpeech(nn.Module):
    def __init__(self, inputs, hidden, layers, labels):
        super().__init__()
        self.rnns = nn.ModuleList(BatchRNN(hidden if i else inputs, hidden, i > 0) for i in range(layers))
        self.fc = nn.Linear(hidden, labels, bias=False)

    def forward(self, x, lengths):
        x = x.transpose(0, 1)
        for rnn in self.rnns:
            x = rnn(x, lengths)
        x = self.fc(x).transpose(0, 1)
        return x if self.training else x.softmax(-1)


def decode(probabilities, lengths, labels):
    out = []
    for row, n in zip(probabilities.argmax(-1), lengths, strict=True):
        path = torch.unique_consecutive(row[:n]).tolist()
        out.append("".join(labels[i] for i in path if i))
    return out


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    random.seed(args.seed)
    with open(args.labels_path) as f:
        labels = "".join(json.load(f))
    if not os.path.exists(args.train_manifest):
        create(labels, np.random.default_rng(8))
    os.makedirs(args.save_folder, exist_ok=True)
    train, test = Speech(args.train_manifest, labels), Speech(args.val_manifest, labels)
    sampler = BucketingSampler(train, args.batch_size)
    train_loader = DataLoader(train, batch_sampler=sampler, collate_fn=collate)
    test_loader = DataLoader(test, batch_size=args.batch_size, collate_fn=collate)
    model = DeepSpeech(len(labels), args.hidden_size, args.hidden_layers, len(labels))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=1e-5)
    criterion = nn.CTCLoss(reduction="sum", zero_infinity=True)
    best = None
    if not args.no_shuffle and args.no_sorta_grad:
        sampler.shuffle(0)
    for epoch in range(args.epochs):
        model.train()
        for inputs, targets, percentages, target_sizes in train_loader:
            input_sizes = percentages.mul_(int(inputs.size(1))).round().int()
            out = model(inputs, input_sizes).transpose(0, 1)
            loss = criterion(out.float().log_softmax(2), targets, input_sizes, target_sizes) / inputs.size(0)
            value = loss.item()
            if math.isinf(value) or math.isnan(value) or value < 0:
                print("WARNING: received an invalid loss, skipping")
                continue
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_norm)
            optimizer.step()
        errors = characters = 0
        with torch.no_grad():
            model.eval()
            for inputs, targets, percentages, target_sizes in test_loader:
                input_sizes = percentages.mul_(int(inputs.size(1))).round().int()
                guesses = decode(model(inputs, input_sizes), input_sizes, labels)
                for guess, target in zip(guesses, targets.split(target_sizes.tolist()), strict=True):
                    text = "".join(labels[i] for i in target)
                    errors, characters = errors + distance(guess, text), characters + len(text)
        cer = 100 * errors / characters
        print(f"Validation Summary Epoch: [{epoch + 1}]\tAverage CER {cer:.3f}")
        torch.save(
            {
                "epoch": epoch + 1,
                "state_dict": model.state_dict(),
                "optim_dict": optimizer.state_dict(),
                "labels": labels,
            },
            os.path.join(args.save_folder, f"deepspeech_{epoch + 1}.pth"),
        )
        for group in optimizer.param_groups:
            group["lr"] /= args.learning_anneal
        if best is None or cer < best:
            best = cer
            torch.save(
                {"epoch": epoch + 1, "state_dict": model.state_dict()},
                os.path.join(args.save_folder, "deepspeech_final.pth"),
            )
        if not args.no_shuffle:
            sampler.shuffle(epoch)


if __name__ == "__main__":
    main()
