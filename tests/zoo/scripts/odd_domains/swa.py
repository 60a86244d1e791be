"""Stochastic weight averaging: statistics of the average are renewed on the training data, then held-out tensors."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X = torch.randn(160, 1, 10)
y = X[:, 0].sum(1)
loader = DataLoader(TensorDataset(X[:128], y[:128]), 32, shuffle=True)
net = nn.Sequential(nn.Conv1d(1, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1))
average = AveragedModel(net)
opt = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
schedule = SWALR(opt, 0.02, anneal_epochs=2)
for _ in range(2):
    net.train()
    for a, b in loader:
        opt.zero_grad()
        F.mse_loss(net(a).squeeze(1), b).backward()
        opt.step()
    average.update_parameters(net)
    schedule.step()
    update_bn(loader, average)
    average.eval()
    with torch.no_grad():
        print(F.mse_loss(average(X[128:]).squeeze(1), y[128:]).item())
torch.save(average.state_dict(), "swa.pt")
