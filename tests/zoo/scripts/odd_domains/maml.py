"""MAML with functional_call; second-order; outer Adam over tasks of sine regression."""

import math

import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 1))
meta = torch.optim.Adam(net.parameters(), 2e-3)


def task():
    a, p = torch.rand(()) * 4 + 0.1, torch.rand(()) * math.pi
    return lambda n: (lambda x: (x, a * torch.sin(x + p)))(torch.rand(n, 1) * 10 - 5)


def adapt(params, x, y, lr=0.02, create=True):
    g = torch.autograd.grad(
        ((functional_call(net, params, x) - y) ** 2).mean(), list(params.values()), create_graph=create
    )
    return {k: v - lr * d for (k, v), d in zip(params.items(), g)}


for it in range(20):
    outer = 0.0
    for _ in range(4):
        t = task()
        fast = adapt(dict(net.named_parameters()), *t(10))
        x, y = t(10)
        outer = outer + ((functional_call(net, fast, x) - y) ** 2).mean() / 4
    meta.zero_grad()
    outer.backward()
    meta.step()
    if it % 5 == 0:
        t = task()
        fast = adapt(dict(net.named_parameters()), *t(10), create=False)
        x, y = t(50)
        with torch.no_grad():
            print(it, outer.item(), ((functional_call(net, fast, x) - y) ** 2).mean().item())
torch.save(net.state_dict(), "maml.pt")
