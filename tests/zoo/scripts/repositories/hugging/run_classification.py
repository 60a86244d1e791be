"""Fine-tune a sentence classifier: `run_classification.py args.json` or `--name value` pairs."""

import dataclasses
import json
import logging
import os
import random
import sys

import numpy as np
import torch
from torch import nn
from trainer import JsonLog, Trainer, TrainingArguments

WORDS = [
    "[PAD]",
    "[CLS]",
    *"the a film plot actor was is good great fun bad dull awful".split(),
    *(f"##{n}" for n in range(40)),
]


class TinyBert(nn.Module):
    def __init__(self, dim=24):
        super().__init__()
        self.word, self.position = nn.Embedding(len(WORDS), dim, padding_idx=0), nn.Embedding(16, dim)
        layer = nn.TransformerEncoderLayer(dim, 2, 48, dropout=0.1, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.dropout, self.classifier = nn.Dropout(0.1), nn.Linear(dim, 2)

    def forward(self, input_ids, attention_mask, labels=None):
        x = self.word(input_ids) + self.position(torch.arange(input_ids.shape[1]))
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        logits = self.classifier(self.dropout(x[:, 0]))
        out = {"logits": logits}
        if labels is not None:
            out["loss"] = nn.functional.cross_entropy(logits, labels)
        return out


def write_data(path, count, seed):
    rng = random.Random(seed)
    with open(path, "w") as f:
        for _ in range(count):
            good = rng.random() < 0.5
            name = " ".join(f"##{rng.randrange(40)}" for _ in range(rng.randint(1, 4)))
            text = f"the {rng.choice(['film', 'plot', 'actor'])} {name} {rng.choice(['was', 'is'])} {rng.choice(['good', 'great', 'fun'] if good else ['bad', 'dull', 'awful'])}"
            f.write(json.dumps({"text": text, "label": int(good)}) + "\n")


def read(path):
    with open(path) as f:
        rows = [json.loads(line) for line in f]
    return [{"ids": [1] + [WORDS.index(w) for w in row["text"].split()], "label": row["label"]} for row in rows]


def collate(rows):
    longest = max(len(row["ids"]) for row in rows)
    ids = torch.tensor([row["ids"] + [0] * (longest - len(row["ids"])) for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "labels": torch.tensor([row["label"] for row in rows]),
    }


def main():
    logging.basicConfig(level=logging.WARNING)
    argv = sys.argv[1:]
    given = {}
    if argv and argv[0].endswith(".json"):
        with open(argv.pop(0)) as f:
            given = json.load(f)
    kinds = {field.name: type(field.default) for field in dataclasses.fields(TrainingArguments)}
    for name, value in zip(argv[::2], argv[1::2], strict=True):
        given[name.lstrip("-")] = kinds[name.lstrip("-")](value)
    args = TrainingArguments(**given)
    os.makedirs(args.output_dir, exist_ok=True)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    for name, count in (("train", 40), ("dev", 16)):
        if not os.path.exists(f"{name}.jsonl"):
            write_data(f"{name}.jsonl", count, count)
    trainer = Trainer(
        TinyBert(),
        args,
        read("train.jsonl"),
        read("dev.jsonl"),
        collate,
        lambda pair: {"accuracy": float((pair[0].argmax(1) == pair[1]).mean())},
        [JsonLog()],
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint or None)
    torch.save(trainer.model.state_dict(), os.path.join(args.output_dir, "pytorch_model.bin"))


if __name__ == "__main__":
    main()
