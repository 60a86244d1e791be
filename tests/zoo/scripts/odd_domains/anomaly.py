"""Autoencoder on normal samples only; test holds anomalies; labels used only for AUROC."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(0)
basis = torch.randn(3, 20)
z = torch.randn(360, 3)
X = z @ basis + 0.1 * torch.randn(360, 20)
y = torch.zeros(360, dtype=torch.long)
y[320:] = 1
X[320:] = torch.randn(40, 20) * X[:320].std()
ds = TensorDataset(X, y)
train = Subset(ds, range(280))
test = Subset(ds, range(280, 360))
ae = nn.Sequential(
    nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 20)
)
opt = torch.optim.Adam(ae.parameters(), 5e-3)
mse = nn.MSELoss(reduction="none")


def auroc(s, y):
    p, n = s[y == 1], s[y == 0]
    return ((p[:, None] > n[None]).float() + 0.5 * (p[:, None] == n[None]).float()).mean().item()


for ep in range(4):
    ae.train()
    for x, _ in DataLoader(train, 70, shuffle=True):
        loss = mse(ae(x), x).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    ae.eval()
    s, t = [], []
    with torch.no_grad():
        for x, lab in DataLoader(test, 40):
            s.append(mse(ae(x), x).mean(1))
            t.append(lab)
    print(ep, loss.item(), auroc(torch.cat(s), torch.cat(t)))
torch.save(ae.state_dict(), "ae.pt")
