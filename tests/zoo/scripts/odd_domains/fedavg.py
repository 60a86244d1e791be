"""FedAvg simulation: copies of the global model on clients, non-iid shards, weighted average."""

import argparse
import copy

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


def client_update(glob, loader, lr, local):
    net = copy.deepcopy(glob)
    opt = torch.optim.SGD(net.parameters(), lr=lr)
    net.train()
    for _ in range(local):
        for x, y in loader:
            opt.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            opt.step()
    return net.state_dict(), len(loader.dataset)


def average(states):
    n = sum(k for _, k in states)
    return {key: sum(s[key] * (k / n) for s, k in states) for key in states[0][0]}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--clients", type=int, default=4)
    a = ap.parse_args()
    torch.manual_seed(0)
    x = torch.randn(500, 6)
    y = (x @ torch.randn(6, 3)).argmax(1)
    order = y[:400].argsort()
    parts = [order[i::1][s * 100 : (s + 1) * 100] for i in [0] for s in range(a.clients)]
    loaders = [DataLoader(TensorDataset(x[p], y[p]), 25, shuffle=True) for p in parts]
    glob = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))
    vl = DataLoader(TensorDataset(x[400:], y[400:]), 50)
    for r in range(a.rounds):
        glob.load_state_dict(
            average([client_update(glob, loaders[int(c)], 0.1, 1) for c in torch.randperm(a.clients)[:3]])
        )
        glob.eval()
        with torch.no_grad():
            print(r, sum((glob(p).argmax(1) == q).sum().item() for p, q in vl) / 100)
        torch.save(glob.state_dict(), f"round_{r}.pt")


if __name__ == "__main__":
    main()
