"""A script that logs only: argparse, relative paths, no checkpoint, no validation."""

from argparse import ArgumentParser
from glob import glob

import numpy as np
from torch import from_numpy, manual_seed, nn, optim, randperm


def main(argv=None):
    parser = ArgumentParser()
    parser.add_argument("folder", nargs="?", default="data/train")
    parser.add_argument("-n", "--steps", type=int, default=8)
    options = parser.parse_args(argv)
    manual_seed(0)
    recordings = [np.load(name) for name in sorted(glob(f"{options.folder}/*.npz"))]
    x = from_numpy(np.concatenate([r["signal"].reshape(4, 10, 64).transpose(1, 0, 2) for r in recordings])) / 100
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 256), nn.Unflatten(1, (4, 64)))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.MSELoss()
    with open("log.txt", "w") as log:
        for step in range(options.steps):
            batch = x[randperm(len(x))[:8]]
            loss = criterion(model(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(step, loss.item(), file=log)


if __name__ == "__main__":
    main()
