"""Grid over learning rate and width in one process; best configuration refit on train+val and tested once."""

import itertools
import random

import numpy as np
import torch
from torch import nn


def set_seed(s):
    random.seed(s)
    np.random.seed(s)
    torch.manual_seed(s)


def fit(x, y, lr, width, epochs):
    net = nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 1))
    opt = torch.optim.NAdam(net.parameters(), lr=lr)
    for _ in range(epochs):
        for i in torch.randperm(len(x)).split(100):
            opt.zero_grad()
            loss = nn.functional.huber_loss(net(x[i]).squeeze(-1), y[i])
            loss.backward()
            opt.step()
    return net


@torch.no_grad()
def mae(net, x, y):
    return (net(x).squeeze(-1) - y).abs().mean().item()


set_seed(0)
X = torch.randn(300, 5)
Y = X[:, 0].abs() + X[:, 1]
tr, va, te = slice(0, 200), slice(200, 250), slice(250, 300)
table = []
for lr, w in itertools.product([1e-2, 1e-3], [8, 32]):
    set_seed(0)
    net = fit(X[tr], Y[tr], lr, w, 2)
    table.append((mae(net, X[va], Y[va]), lr, w))
    print(table[-1])
_, lr, w = min(table)
set_seed(1)
final = fit(X[:250], Y[:250], lr, w, 3)
print("test", mae(final, X[te], Y[te]))
torch.save(final.state_dict(), "final.pt")
