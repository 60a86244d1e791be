"""Active learning rounds: train from scratch on the labelled pool, query the most uncertain, grow; fixed test set."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(5)
X = torch.randn(400, 2)
y = ((X**2).sum(1) > 1.5).long()
pool, test = TensorDataset(X[:340], y[:340]), TensorDataset(X[340:], y[340:])
labelled = set(range(20))
vl = DataLoader(test, 60)


def train(idx):
    net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(4):
        for a, b in DataLoader(Subset(pool, idx), 10, shuffle=True):
            opt.zero_grad()
            nn.functional.cross_entropy(net(a), b).backward()
            opt.step()
    return net


for rnd in range(4):
    net = train(sorted(labelled))
    net.eval()
    with torch.no_grad():
        acc = sum((net(a).argmax(1) == b).sum().item() for a, b in vl) / 60
        rest = [i for i in range(340) if i not in labelled]
        p = torch.cat([net(a).softmax(1) for a, _ in DataLoader(Subset(pool, rest), 64)])
        ent = -(p * p.clamp(min=1e-9).log()).sum(1)
    labelled |= {rest[i] for i in ent.topk(20).indices.tolist()}
    print(rnd, len(labelled), acc)
torch.save(net.state_dict(), "active.pt")
