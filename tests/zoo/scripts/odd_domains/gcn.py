"""Transductive GCN, the Kipf recipe: one graph, masks, full batch, dropout, weight decay on the first layer only."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F

p = argparse.ArgumentParser()
p.add_argument("--epochs", type=int, default=40)
p.add_argument("--hidden", type=int, default=16)
args = p.parse_args()
torch.manual_seed(0)
n, c = 150, 3
y = torch.randint(0, c, (n,))
prob = torch.where(y[:, None] == y[None], 0.12, 0.01)
A = (torch.rand(n, n) < prob).float().triu(1)
A = A + A.T + torch.eye(n)
d = A.sum(1).rsqrt()
adj = (d[:, None] * A * d[None]).to_sparse_coo().coalesce()
X = F.one_hot(y, c).float() @ torch.randn(c, 20) * 0.3 + torch.randn(n, 20)
X = X / X.norm(dim=1, keepdim=True)
perm = torch.randperm(n)
mask = torch.zeros(3, n, dtype=torch.bool)
mask[0, perm[:30]] = True
mask[1, perm[30:80]] = True
mask[2, perm[80:]] = True
train_mask, val_mask, test_mask = mask


class GraphConv(nn.Module):
    def __init__(s, i, o):
        super().__init__()
        s.weight = nn.Parameter(torch.empty(i, o))
        s.bias = nn.Parameter(torch.zeros(o))
        nn.init.xavier_uniform_(s.weight)

    def forward(s, x, adj):
        return torch.sparse.mm(adj, x @ s.weight) + s.bias


class GCN(nn.Module):
    def __init__(s):
        super().__init__()
        s.gc1, s.gc2 = GraphConv(20, args.hidden), GraphConv(args.hidden, c)

    def forward(s, x, adj):
        return F.log_softmax(s.gc2(F.dropout(F.relu(s.gc1(x, adj)), 0.5, s.training), adj), 1)


model = GCN()
opt = torch.optim.Adam(
    [{"params": model.gc1.parameters(), "weight_decay": 5e-4}, {"params": model.gc2.parameters(), "weight_decay": 0}],
    lr=0.01,
)
best_val = best_test = 0.0
for epoch in range(args.epochs):
    model.train()
    opt.zero_grad()
    out = model(X, adj)
    loss = F.nll_loss(out[train_mask], y[train_mask])
    loss.backward()
    opt.step()
    model.eval()
    with torch.no_grad():
        pred = model(X, adj).argmax(1)
    accs = [(pred[m] == y[m]).float().mean().item() for m in mask]
    if accs[1] > best_val:
        best_val, best_test = accs[1], accs[2]
    if epoch % 10 == 0:
        print(epoch, loss.item(), *accs)
print("best", best_val, best_test)
