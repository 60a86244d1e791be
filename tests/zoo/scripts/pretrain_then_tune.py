"""Pretrain an autoencoder, keep its encoder, freeze it, train a classifier on stored features, then tune both."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(0)
x = torch.randn(96, 4, 40)
x[::2, 1] += torch.sin(torch.arange(40) * 0.5) * 2
y = torch.zeros(96, dtype=torch.long)
y[::2] = 1
train, held = random_split(TensorDataset(x, y), (72, 24), generator=torch.Generator().manual_seed(1))
encoder = nn.Sequential(nn.Conv1d(4, 8, 8, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(72, 12))
decoder = nn.Sequential(nn.Linear(12, 160), nn.Unflatten(1, (4, 40)))
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
for (batch, _), _ in zip(DataLoader(train, 24, shuffle=True), range(2), strict=False):
    optimizer.zero_grad()
    F.mse_loss(decoder(encoder(batch)), batch).backward()
    optimizer.step()
torch.save(encoder.state_dict(), "encoder.tmp")
Path("encoder.tmp").rename("encoder.pt")

encoder.load_state_dict(torch.load("encoder.pt"))
encoder.requires_grad_(False).eval()
head = nn.Linear(12, 2)
with torch.no_grad():
    features = torch.cat([encoder(a) for a, _ in DataLoader(train, 24)])
    wanted = torch.cat([b for _, b in DataLoader(train, 24)])
probe = torch.optim.LBFGS(head.parameters(), lr=0.5, max_iter=4)


def closure():
    probe.zero_grad()
    loss = F.cross_entropy(head(features), wanted) + 1e-3 * head.weight.square().sum()
    loss.backward()
    return loss


probe.step(closure)
encoder.requires_grad_(True).train()
whole = nn.Sequential(encoder, head)
tune = torch.optim.AdamW([{"params": encoder.parameters(), "lr": 1e-4}, {"params": head.parameters(), "lr": 1e-3}])
for (a, b), _ in zip(DataLoader(train, 24, shuffle=True), range(3), strict=False):
    tune.zero_grad()
    F.cross_entropy(whole(a), b).backward()
    tune.step()
whole.eval()
with torch.no_grad():
    right = sum(int((whole(a).argmax(1) == b).sum()) for a, b in DataLoader(held, 12))
print("held out", right / len(held))
torch.save(whole.state_dict(), "whole.tmp")
Path("whole.tmp").rename("whole.pt")
