"""Masked tokens with the 80/10/10 rule; labels -100 elsewhere; padded batches; warm-up from zero by LambdaLR."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

PAD, MASK, V = 0, 1, 40


class Sentences(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.rows = []
        for _ in range(n):
            k = int(torch.randint(8, 20, (1,), generator=g))
            start = int(torch.randint(0, 38, (1,), generator=g))
            step = int(torch.randint(1, 4, (1,), generator=g))
            self.rows.append(2 + (start + step * torch.arange(k)) % 38)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Collator:
    def __init__(self, p=0.2, seed=None):
        self.p, self.g = p, (torch.Generator().manual_seed(seed) if seed is not None else None)

    def __call__(self, rows):
        ids = nn.utils.rnn.pad_sequence(rows, True, PAD)
        labels = ids.clone()
        real = ids != PAD
        chosen = (torch.rand(ids.shape, generator=self.g) < self.p) & real
        chosen[:, 0] |= ~chosen.any(1)
        labels[~chosen] = -100
        r = torch.rand(ids.shape, generator=self.g)
        ids[chosen & (r < 0.8)] = MASK
        rnd = torch.randint(2, V, ids.shape, generator=self.g)
        swap = chosen & (r >= 0.9)
        ids[swap] = rnd[swap]
        return {"input_ids": ids, "attention_mask": real, "labels": labels}


class Bert(nn.Module):
    def __init__(self, d=32, layers=2):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, d, padding_idx=PAD), nn.Embedding(32, d)
        self.enc = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(d, 2, 64, 0.1, batch_first=True, norm_first=True),
            layers,
            enable_nested_tensor=False,
        )
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, V)
        self.head.weight = self.tok.weight
        nn.init.normal_(self.tok.weight, std=32**-0.5)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.tok.weight[PAD].zero_()

    def forward(self, input_ids, attention_mask, labels=None):
        h = self.tok(input_ids) * 32**0.5 + self.pos(torch.arange(input_ids.size(1), device=input_ids.device))
        lg = self.head(self.norm(self.enc(h, src_key_padding_mask=~attention_mask)))
        loss = (
            nn.functional.cross_entropy(lg.flatten(0, 1), labels.flatten(), ignore_index=-100)
            if labels is not None
            else None
        )
        return {"loss": loss, "logits": lg}


def main(argv=None):
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=3)
    ap.add_argument("--lr", type=float, default=3e-3)
    a = ap.parse_args(argv)
    torch.manual_seed(42)
    tl = DataLoader(Sentences(160, 0), 40, shuffle=True, collate_fn=Collator())
    model = Bert()
    groups = [
        {"params": [p for n, p in model.named_parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for n, p in model.named_parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    opt = torch.optim.AdamW(groups, a.lr)
    total = a.epochs * len(tl)
    warm = total // 10 + 1
    sch = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda s: s / warm if s < warm else max(0.0, (total - s) / (total - warm))
    )
    for ep in range(a.epochs):
        model.train()
        for batch in tl:
            out = model(**batch)
            out["loss"].backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            sch.step()
            opt.zero_grad()
        model.eval()
        vl = DataLoader(Sentences(32, 1), 16, collate_fn=Collator(seed=9))
        s = 0.0
        with torch.no_grad():
            for batch in vl:
                s += model(**batch)["loss"].item()
        print({"epoch": ep, "eval_loss": s / len(vl), "lr": sch.get_last_lr()[0]})
    torch.save(model.state_dict(), "pytorch_model.bin")


if __name__ == "__main__":
    main()
