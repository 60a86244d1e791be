"""Small data for the trainers of this family: images with a class, token lists, tables, ratings."""

import itertools
import random

import numpy as np
import torch
from torch.utils.data import Dataset

CLASSES, SIZE = 4, 8


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def pictures(count, start=0):
    """Return images (count, 1, 8, 8) whose class is the bright quadrant, and the classes."""
    rng = np.random.default_rng(1000 + start)
    y = rng.integers(0, CLASSES, count)
    x = rng.normal(0, 0.5, (count, 1, SIZE, SIZE)).astype("float32")
    for image, label in zip(x, y, strict=True):
        row, column = divmod(int(label), 2)
        image[0, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 1.5
    return torch.from_numpy(x), torch.from_numpy(y)


class Pictures(Dataset):
    """Images in memory; ``transform`` is called on each when it is read."""

    def __init__(self, count, start=0, transform=None):
        self.x, self.y = pictures(count, start)
        self.transform = transform

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        x = self.x[index]
        return (self.transform(x) if self.transform else x), int(self.y[index])


def jitter(x):
    """Shift a picture by a pixel, add noise, change its gain."""
    x = torch.roll(x, random.randint(-1, 1), dims=-1)
    return x * random.uniform(0.8, 1.2) + 0.1 * torch.randn_like(x)


def accuracy(logits, y):
    return (logits.argmax(-1) == y).float().mean().item()


def endless(loader):
    """Yield the batches of one pass after another, each in its own order."""
    return itertools.chain.from_iterable(itertools.repeat(loader))
