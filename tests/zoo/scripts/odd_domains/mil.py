"""Attention MIL: a bag of varying size is one batch; grad accumulation over 4 bags."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Bags(Dataset):
    def __init__(s, n, seed):
        r = np.random.default_rng(seed)
        s.bags = []
        for _ in range(n):
            k = r.integers(4, 15)
            y = r.integers(0, 2)
            x = r.normal(size=(k, 6)).astype(np.float32)
            if y:
                x[r.integers(0, k), :3] += 3
            s.bags.append((torch.from_numpy(x), torch.tensor(float(y))))

    def __len__(s):
        return len(s.bags)

    def __getitem__(s, i):
        return s.bags[i]


class ABMIL(nn.Module):
    def __init__(s, d=16):
        super().__init__()
        s.f = nn.Sequential(nn.Linear(6, d), nn.ReLU())
        s.V, s.U, s.w = nn.Linear(d, 8), nn.Linear(d, 8), nn.Linear(8, 1)
        s.c = nn.Linear(d, 1)

    def forward(s, bag):
        h = s.f(bag.squeeze(0))
        a = s.w(torch.tanh(s.V(h)) * torch.sigmoid(s.U(h))).softmax(0)
        return s.c((a * h).sum(0)), a


torch.manual_seed(0)
tl, vl = DataLoader(Bags(16, 0), 1, shuffle=True), DataLoader(Bags(24, 1), 1)
net = ABMIL()
opt = torch.optim.Adam(net.parameters(), 3e-3, weight_decay=1e-4)
bce = nn.BCEWithLogitsLoss()
for ep in range(3):
    net.train()
    opt.zero_grad()
    for i, (bag, y) in enumerate(tl):
        lg, _ = net(bag)
        (bce(lg, y) / 4).backward()
        if (i + 1) % 4 == 0:
            opt.step()
            opt.zero_grad()
    net.eval()
    ok = 0
    with torch.no_grad():
        for bag, y in vl:
            ok += float((net(bag)[0] > 0).float() == y)
    print(ep, ok / len(vl))
    torch.save(net.state_dict(), "mil.pt")
