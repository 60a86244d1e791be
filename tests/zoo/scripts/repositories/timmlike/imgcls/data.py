"""Images in folders by class, repeated augmentation, mixup and cutmix on the batch."""

import math
import random
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

CLASSES = ("birch", "cedar", "larch", "maple", "oak")


def download(root):
    """Write a few images of each class, once."""
    rng = np.random.default_rng(5)
    for split, count in (("train", 10), ("val", 5)):
        for place, name in enumerate(CLASSES):
            folder = Path(root) / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                image = rng.integers(0, 120, (12, 12, 3))
                image[:, place * 2 : place * 2 + 3, place % 3] += 120
                np.save(folder / f"{name}_{i:04d}.npy", image.astype(np.uint8))


class ImageFolder(Dataset):
    def __init__(self, root, split, training):
        self.samples = [
            (path, place)
            for place, name in enumerate(CLASSES)
            for path in sorted((Path(root) / split / name).glob("*.npy"))
        ]
        self.training = training

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, target = self.samples[index]
        image = np.load(path)
        if self.training:
            if random.random() < 0.5:
                image = image[:, ::-1]
            top, left = random.randint(0, 2), random.randint(0, 2)
            image = image[top : top + 10, left : left + 10]
        else:
            image = image[1:11, 1:11]
        return np.ascontiguousarray(image.transpose(2, 0, 1)), target


def fast_collate(batch):
    images = torch.from_numpy(np.stack([image for image, _ in batch]))
    return images, torch.tensor([target for _, target in batch], dtype=torch.int64)


class Normalized:
    """What a prefetcher does: bytes to standardized floats, after collation."""

    def __init__(self, loader):
        self.loader = loader
        self.mean = torch.tensor([0.485, 0.456, 0.406]).mul(255).view(1, 3, 1, 1)
        self.std = torch.tensor([0.229, 0.224, 0.225]).mul(255).view(1, 3, 1, 1)

    def __iter__(self):
        for images, target in self.loader:
            yield images.float().sub_(self.mean).div_(self.std), target

    def __len__(self):
        return len(self.loader)


class RepeatAugSampler(Sampler):
    def __init__(self, dataset, repeats=3, seed=0):
        self.count, self.repeats, self.seed, self.epoch = len(dataset), repeats, seed, 0

    def __iter__(self):
        g = torch.Generator().manual_seed(self.seed + self.epoch)
        indices = torch.randperm(self.count, generator=g).repeat_interleave(self.repeats)
        return iter(indices.tolist()[: self.count])

    def __len__(self):
        return self.count

    def set_epoch(self, epoch):
        self.epoch = epoch


class Mixup:
    def __init__(
        self,
        mixup_alpha=0.8,
        cutmix_alpha=1.0,
        switch_prob=0.5,
        prob=1.0,
        label_smoothing=0.1,
        num_classes=len(CLASSES),
    ):
        self.alphas, self.switch, self.prob = (mixup_alpha, cutmix_alpha), switch_prob, prob
        self.smoothing, self.num_classes, self.enabled = label_smoothing, num_classes, True

    def one_hot(self, target):
        off = self.smoothing / self.num_classes
        return torch.full((len(target), self.num_classes), off).scatter_(1, target[:, None], 1 - self.smoothing + off)

    def __call__(self, x, target):
        lam = 1.0
        if self.enabled and np.random.rand() < self.prob:
            cut = np.random.rand() < self.switch
            lam = float(np.random.beta(*(2 * [self.alphas[cut]])))
            if cut:
                h, w = x.shape[-2:]
                side = math.sqrt(1 - lam)
                ch, cw, cy, cx = int(h * side), int(w * side), np.random.randint(h), np.random.randint(w)
                y1, y2, x1, x2 = max(cy - ch // 2, 0), min(cy + ch // 2, h), max(cx - cw // 2, 0), min(cx + cw // 2, w)
                x[:, :, y1:y2, x1:x2] = x.flip(0)[:, :, y1:y2, x1:x2]
                lam = 1 - (y2 - y1) * (x2 - x1) / (h * w)
            else:
                x.mul_(lam).add_(x.flip(0).mul_(1 - lam))
        return x, self.one_hot(target) * lam + self.one_hot(target.flip(0)) * (1 - lam)
