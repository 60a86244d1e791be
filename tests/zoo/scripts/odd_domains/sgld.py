"""Stochastic-gradient Langevin dynamics with an optimizer class of its own; posterior samples kept in memory, averaged prediction."""

import copy

import torch
from torch import nn


class SGLD(torch.optim.Optimizer):
    def __init__(self, params, lr, prior=1.0):
        super().__init__(params, {"lr": lr, "prior": prior})

    @torch.no_grad()
    def step(self, closure=None):
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is not None:
                    p.add_(p.grad + p / g["prior"] ** 2, alpha=-0.5 * g["lr"]).add_(
                        torch.randn_like(p) * g["lr"] ** 0.5
                    )


torch.manual_seed(12)
N = 200
X = torch.rand(N, 1) * 4 - 2
Y = (X * 2).sin() + 0.1 * torch.randn(N, 1)
Xv = torch.linspace(-2, 2, 50)[:, None]
net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
opt = SGLD(net.parameters(), 1e-4)
samples = []
for it in range(60):
    i = torch.randint(0, N, (32,))
    opt.zero_grad()
    nll = N * ((net(X[i]) - Y[i]) ** 2 / (2 * 0.1**2)).mean()
    nll.backward()
    opt.step()
    for g in opt.param_groups:
        g["lr"] = 1e-4 * (1 + it) ** -0.33
    if it >= 30 and it % 6 == 0:
        samples.append(copy.deepcopy(net.state_dict()))
preds = []
with torch.no_grad():
    for s in samples:
        m = copy.deepcopy(net)
        m.load_state_dict(s)
        preds.append(m(Xv))
print("rmse", (torch.stack(preds).mean(0) - (Xv * 2).sin()).pow(2).mean().sqrt().item())
torch.save(samples, "posterior.pt")
