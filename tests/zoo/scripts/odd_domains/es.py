"""OpenAI evolution strategies: antithetic noise, rank shaping, gradient estimate put in .grad, Adam; no backward anywhere."""

import torch
from torch import nn

torch.manual_seed(0)
pol = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))
opt = torch.optim.Adam(pol.parameters(), 0.02, weight_decay=1e-3)
S = torch.randn(64, 3)
target = (S[:, :1] - S[:, 1:2]).tanh()


@torch.no_grad()
def fitness(vec):
    nn.utils.vector_to_parameters(vec, pol.parameters())
    return -((pol(S) - target) ** 2).mean().item()


for gen in range(12):
    with torch.no_grad():
        theta = nn.utils.parameters_to_vector(pol.parameters()).clone()
    eps = torch.randn(16, len(theta))
    eps = torch.cat([eps, -eps])
    F = torch.tensor([fitness(theta + 0.05 * e) for e in eps])
    rank = F.argsort().argsort().float() / (len(F) - 1) - 0.5
    g = -(rank @ eps) / (len(F) * 0.05)
    nn.utils.vector_to_parameters(theta, pol.parameters())
    k = 0
    for p in pol.parameters():
        p.grad = g[k : k + p.numel()].view_as(p).clone()
        k += p.numel()
    opt.step()
    print(gen, F.mean().item())
torch.save(pol.state_dict(), "es.pt")
