"""DeepCluster: k-means on features in eval, pseudo-labels re-drawn each epoch, head re-initialised each epoch with a fresh optimizer for it."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
K = 5
X = torch.randn(K, 12)[torch.randint(0, K, (300,))] * 1.5 + torch.randn(300, 12)
body = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
obody = torch.optim.SGD(body.parameters(), 0.05, momentum=0.9, weight_decay=1e-5)


def kmeans(f, k, it=8):
    c = f[torch.randperm(len(f))[:k]].clone()
    for _ in range(it):
        a = torch.cdist(f, c).argmin(1)
        for j in range(k):
            if (a == j).any():
                c[j] = f[a == j].mean(0)
    return a


for ep in range(4):
    body.eval()
    with torch.no_grad():
        f = torch.cat([body(b[0]) for b in DataLoader(TensorDataset(X), 100)])
    pseudo = kmeans(nn.functional.normalize(f, dim=1), K)
    head = nn.Linear(16, K)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    ohead = torch.optim.SGD(head.parameters(), 0.05)
    body.train()
    tot = 0.0
    for x, t in DataLoader(TensorDataset(X, pseudo), 100, shuffle=True):
        loss = nn.functional.cross_entropy(head(body(x)), t)
        obody.zero_grad()
        ohead.zero_grad()
        loss.backward()
        obody.step()
        ohead.step()
        tot += loss.item()
    print(ep, tot / 3, pseudo.bincount(minlength=K).tolist())
    torch.save({"body": body.state_dict(), "epoch": ep}, "dc.pt")
