"""Layer-local training (forward-forward): every layer has its own optimizer and loss, inputs detached."""

import torch
from torch import nn


class Layer(nn.Linear):
    def __init__(s, i, o):
        super().__init__(i, o)
        s.opt = torch.optim.Adam(s.parameters(), 0.01)
        s.th = 2.0

    def forward(s, x):
        return torch.relu(super().forward(x / (x.norm(2, 1, keepdim=True) + 1e-4)))

    def fit(s, pos, neg):
        gp, gn = s(pos).pow(2).sum(1), s(neg).pow(2).sum(1)
        loss = nn.functional.softplus(torch.cat([-gp + s.th, gn - s.th])).mean()
        s.opt.zero_grad()
        loss.backward()
        s.opt.step()
        return s(pos).detach(), s(neg).detach(), loss.item()


def overlay(x, y):
    x = x.clone()
    x[:, :3] = 0
    x[torch.arange(len(x)), y] = x.abs().max()
    return x


torch.manual_seed(0)
C = torch.randn(3, 17)
y = torch.randint(0, 3, (300,))
X = torch.cat([torch.zeros(300, 3), C[y] + 0.5 * torch.randn(300, 17)], 1)
layers = [Layer(20, 40), Layer(40, 40)]


def predict(x):
    good = []
    with torch.no_grad():
        for c in range(3):
            h = overlay(x, torch.full((len(x),), c))
            g = 0
            for l in layers:
                h = l(h)
                g = g + h.pow(2).sum(1)
            good.append(g)
    return torch.stack(good, 1).argmax(1)


for ep in range(4):
    for i in torch.randperm(240).split(120):
        hp, hn = overlay(X[i], y[i]), overlay(X[i], (y[i] + torch.randint(1, 3, (len(i),))) % 3)
        for l in layers:
            hp, hn, loss = l.fit(hp, hn)
    print(ep, loss, (predict(X[240:]) == y[240:]).float().mean().item())
torch.save([l.state_dict() for l in layers], "ff.pt")
