"""PINN for u'' = -pi^2 sin(pi x): second-order derivatives on inputs, LBFGS after Adam, no data."""

import math

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))


def residual(x):
    x = x.requires_grad_(True)
    u = net(x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (d2,) = torch.autograd.grad(du.sum(), x, create_graph=True)
    return d2 + math.pi**2 * torch.sin(math.pi * x)


def loss_fn():
    return residual(torch.rand(64, 1)).pow(2).mean() + 50 * net(torch.tensor([[0.0], [1.0]])).pow(2).mean()


def error():
    x = torch.linspace(0, 1, 101)[:, None]
    with torch.no_grad():
        return (net(x) - torch.sin(math.pi * x)).abs().max().item()


adam = torch.optim.Adam(net.parameters(), 2e-3)
for i in range(30):
    adam.zero_grad()
    l = loss_fn()
    l.backward()
    adam.step()
print("adam", l.item(), error())
grid = torch.linspace(0, 1, 64)[:, None]
lbfgs = torch.optim.LBFGS(net.parameters(), lr=1.0, max_iter=10, line_search_fn="strong_wolfe")


def closure():
    lbfgs.zero_grad()
    l = residual(grid.clone()).pow(2).mean() + 50 * net(torch.tensor([[0.0], [1.0]])).pow(2).mean()
    l.backward()
    return l


for i in range(3):
    print("lbfgs", float(lbfgs.step(closure)), error())
torch.save(net.state_dict(), "pinn.pt")
