"""Factorization with implicit feedback: sparse embeddings, negatives drawn anew each epoch, hit ratio of one left-out item."""

from __future__ import annotations

import configparser
import os
from collections import defaultdict

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.utils import data


def write_ratings(path):
    rng = np.random.default_rng(4)
    with open(path, "w") as f:
        for user in range(24):
            taste = rng.permutation(np.arange(user % 4, 60, 4))[:9]
            f.writelines(f"{user}::{item}::{rng.integers(3, 6)}::{1000 * user + t}\n" for t, item in enumerate(taste))


def load_all(path):
    by_user = defaultdict(list)
    with open(path) as f:
        for line in f:
            user, item, _, at = map(int, line.split("::"))
            by_user[user].append((at, item))
    train, test = [], []
    for user, seen in by_user.items():
        items = [item for _, item in sorted(seen)]
        train += [[user, item] for item in items[:-1]]
        test.append((user, items[-1]))
    users, items = max(by_user) + 1, max(i for pairs in by_user.values() for _, i in pairs) + 1
    mat = sp.dok_matrix((users, items), dtype=np.float32)
    for user, item in train:
        mat[user, item] = 1.0
    return train, test, users, items, mat


class NCFData(data.Dataset):
    def __init__(self, features, num_item, train_mat, num_ng):
        super().__init__()
        self.features_ps, self.num_item, self.train_mat, self.num_ng = features, num_item, train_mat, num_ng

    def ng_sample(self):
        self.features_ng = []
        for u, _ in self.features_ps:
            for _ in range(self.num_ng):
                j = np.random.randint(self.num_item)
                while (u, j) in self.train_mat:
                    j = np.random.randint(self.num_item)
                self.features_ng.append([u, j])
        self.features_fill = self.features_ps + self.features_ng
        self.labels_fill = [1] * len(self.features_ps) + [0] * len(self.features_ng)

    def __len__(self):
        return (self.num_ng + 1) * len(self.features_ps)

    def __getitem__(self, idx):
        return self.features_fill[idx][0], self.features_fill[idx][1], self.labels_fill[idx]


class NeuMF(nn.Module):
    def __init__(self, users, items, width):
        super().__init__()
        self.tables = nn.ModuleDict(
            {
                k: nn.Embedding(n, width, sparse=True)
                for k, n in (("u_gmf", users), ("i_gmf", items), ("u_mlp", users), ("i_mlp", items))
            }
        )
        for table in self.tables.values():
            nn.init.normal_(table.weight, std=0.01)
        self.mlp = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.predict_layer = nn.Linear(2 * width, 1)

    def forward(self, user, item):
        t = self.tables
        deep = self.mlp(torch.cat((t["u_mlp"](user), t["i_mlp"](item)), -1))
        return self.predict_layer(torch.cat((t["u_gmf"](user) * t["i_gmf"](item), deep), -1)).view(-1)


def hit_ratio(model, test, items, k):
    hits = []
    for user, wanted in test:
        rng = np.random.default_rng(user)
        candidates = torch.tensor([wanted, *rng.choice(items, 19, replace=False).tolist()])
        with torch.no_grad():
            top = model(torch.full_like(candidates, user), candidates).topk(k).indices
        hits.append(wanted in candidates[top].tolist())
    return np.mean(hits)


def main():
    cfg = configparser.ConfigParser()
    cfg.read("settings.ini")
    run = cfg["training"]
    torch.manual_seed(run.getint("seed"))
    np.random.seed(run.getint("seed"))
    os.makedirs("data", exist_ok=True)
    if not os.path.exists("data/ratings.dat"):
        write_ratings("data/ratings.dat")
    train, test, users, items, mat = load_all("data/ratings.dat")
    dataset = NCFData(train, items, mat, run.getint("negatives"))
    loader = data.DataLoader(dataset, batch_size=run.getint("batch"), shuffle=True, num_workers=0)
    model = NeuMF(users, items, run.getint("width"))
    sparse = torch.optim.SparseAdam(list(model.tables.parameters()), lr=run.getfloat("lr"))
    dense = torch.optim.Adam([*model.mlp.parameters(), *model.predict_layer.parameters()], lr=run.getfloat("lr"))
    criterion, best_hr = nn.BCEWithLogitsLoss(), 0
    for epoch in range(run.getint("epochs")):
        model.train()
        loader.dataset.ng_sample()
        for user, item, label in loader:
            model.zero_grad()
            loss = criterion(model(user, item), label.float())
            loss.backward()
            sparse.step()
            dense.step()
        model.eval()
        hr = hit_ratio(model, test, items, 5)
        print(f"HR: {hr:.3f}")
        if hr > best_hr:
            best_hr = hr
            os.makedirs("models", exist_ok=True)
            torch.save(model, "models/NeuMF.pth")


if __name__ == "__main__":
    main()
