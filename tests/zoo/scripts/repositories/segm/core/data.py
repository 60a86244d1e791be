"""Scenes with two kinds of shapes; borders are not labeled."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset


def write(root):
    rng = np.random.default_rng(9)
    for split, count in (("train", 20), ("val", 6)):
        folder = Path(root) / split
        folder.mkdir(parents=True)
        for i in range(count):
            img, lab = rng.normal(100, 20, (20, 20, 3)), np.zeros((20, 20), np.uint8)
            for label in (1, 2):
                r, c = rng.integers(2, 12, 2)
                img[r : r + 6, c : c + 6, label] += 90
                lab[r - 1 : r + 7, c - 1 : c + 7] = 255
                lab[r : r + 6, c : c + 6] = label
            np.savez(folder / f"scene{i}.npz", img=img.clip(0, 255).astype(np.uint8), lab=lab)


class Scenes(Dataset):
    def __init__(self, root, split, crop=None):
        self.files, self.crop = sorted(Path(root, split).glob("*.npz")), crop

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        with np.load(self.files[i]) as f:
            img, lab = f["img"].astype(np.float32), f["lab"].astype(np.int64)
        if self.crop:
            r, c = np.random.randint(0, 20 - self.crop + 1, 2)
            img, lab = img[r : r + self.crop, c : c + self.crop], lab[r : r + self.crop, c : c + self.crop]
            if np.random.rand() < 0.5:
                img, lab = img[:, ::-1], lab[:, ::-1]
        img = (img - 110) / 50
        return torch.from_numpy(img.transpose(2, 0, 1).copy()), torch.from_numpy(lab.copy())
