"""Citations: one graph, masks, several seeds, early stopping on a copy kept in memory, the best put back for the test."""

import copy
import statistics
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Graph(NamedTuple):
    x: Tensor
    edges: Tensor
    y: Tensor
    train: Tensor
    val: Tensor
    test: Tensor


def planted(n=120, classes=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    same = (y[:, None] == y[None]).float()
    adjacency = torch.rand(n, n, generator=g) < 0.01 + 0.09 * same
    x = (torch.rand(n, 40, generator=g) < 0.05 + 0.15 * (torch.arange(40)[None] % classes == y[:, None])).float()
    kind = torch.randperm(n, generator=g)
    masks = [torch.zeros(n, dtype=torch.bool) for _ in range(3)]
    for mask, part in zip(masks, kind.split((30, 40, 50)), strict=True):
        mask[part] = True
    return Graph(x / x.sum(1, keepdim=True).clamp(min=1), adjacency.nonzero().T, y, *masks)


class GATConv(nn.Module):
    def __init__(self, inputs, outputs, heads):
        super().__init__()
        self.lin, self.heads, self.outputs = nn.Linear(inputs, heads * outputs, bias=False), heads, outputs
        self.att = nn.Parameter(torch.empty(2, heads, outputs))
        nn.init.xavier_uniform_(self.att)

    def forward(self, x, edges):
        h = self.lin(x).view(-1, self.heads, self.outputs)
        loops = torch.arange(len(x)).expand(2, -1)
        source, target = torch.cat([edges, loops], 1)
        e = F.leaky_relu((h * self.att[0]).sum(-1)[source] + (h * self.att[1]).sum(-1)[target], 0.2).exp()
        total = torch.zeros(len(x), self.heads).index_add_(0, target, e)
        a = F.dropout(e / total[target], 0.3, self.training)
        return torch.zeros_like(h).index_add_(0, target, h[source] * a[..., None]).flatten(1)


class GAT(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.one, self.two = GATConv(inputs, 8, 4), GATConv(32, classes, 1)

    def forward(self, graph):
        x = F.dropout(graph.x, 0.3, self.training)
        x = F.elu(self.one(x, graph.edges))
        return self.two(F.dropout(x, 0.3, self.training), graph.edges).log_softmax(-1)


def train(model, optimizer, graph):
    model.train()
    optimizer.zero_grad()
    F.nll_loss(model(graph)[graph.train], graph.y[graph.train]).backward()
    optimizer.step()


@torch.no_grad()
def test(model, graph):
    model.eval()
    out = model(graph)
    return F.nll_loss(out[graph.val], graph.y[graph.val]).item(), [
        (out[m].argmax(-1) == graph.y[m]).float().mean().item() for m in (graph.train, graph.val, graph.test)
    ]


scores = []
for seed in range(3):
    torch.manual_seed(seed)
    graph = planted(seed=seed)
    model = GAT(40, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-3)
    best, patience, kept = float("inf"), 0, None
    for epoch in range(1, 41):
        train(model, optimizer, graph)
        val_loss, accuracies = test(model, graph)
        if val_loss < best:
            best, patience, kept = val_loss, 0, copy.deepcopy(model.state_dict())
        else:
            patience += 1
            if patience == 5:
                break
        if epoch % 5 == 0:
            print(
                f"Epoch: {epoch:03d}, Train: {accuracies[0]:.4f}, Val: {accuracies[1]:.4f}, Test: {accuracies[2]:.4f}"
            )
    model.load_state_dict(kept)
    scores.append(test(model, graph)[1][2])
    torch.save(model.state_dict(), f"gat_seed{seed}.pt")
print(f"{statistics.mean(scores):.3f} +- {statistics.pstdev(scores):.3f}")
