#!/usr/bin/env python3
"""Training script with more arguments than images."""

import argparse
import csv
import logging
import os
from collections import OrderedDict
from datetime import datetime

import torch
import torch.nn as nn
import yaml
from imgcls.data import CLASSES, ImageFolder, Mixup, Normalized, RepeatAugSampler, download, fast_collate
from imgcls.engine import (
    CheckpointSaver,
    ConvNextish,
    CosineLRScheduler,
    ModelEma,
    param_groups_layer_decay,
    random_seed,
)
from torch.utils.data import DataLoader

_logger = logging.getLogger("train")
config_parser = argparse.ArgumentParser(add_help=False)
config_parser.add_argument("-c", "--config", default="", type=str)
parser = argparse.ArgumentParser()
parser.add_argument("data_dir", nargs="?", default="data")
parser.add_argument("-b", "--batch-size", type=int, default=10)
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--weight-decay", type=float, default=0.05)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--warmup-epochs", type=int, default=1)
parser.add_argument("--clip-grad", type=float, default=None)
parser.add_argument("--aug-repeats", type=int, default=0)
parser.add_argument("--mixup", type=float, default=0.0)
parser.add_argument("--mixup-off-epoch", type=int, default=0)
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--output", default="output/train")
parser.add_argument("--resume", default="")


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * torch.log_softmax(x, dim=-1), dim=-1).mean()


def _parse_args():
    args_config, remaining = config_parser.parse_known_args()
    if args_config.config:
        with open(args_config.config) as f:
            parser.set_defaults(**yaml.safe_load(f))
    args = parser.parse_args(remaining)
    return args, yaml.safe_dump(args.__dict__, default_flow_style=False)


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler, model_ema, mixup_fn):
    if args.mixup_off_epoch and epoch >= args.mixup_off_epoch:
        mixup_fn.enabled = False
    model.train()
    num_updates = epoch * len(loader)
    total, count = 0.0, 0
    for inputs, target in loader:
        inputs, target = mixup_fn(inputs, target)
        loss = loss_fn(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        if args.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        model_ema.update(model)
        num_updates += 1
        total, count = total + loss.item() * len(inputs), count + len(inputs)
        lr_scheduler.step_update(num_updates=num_updates)
    return OrderedDict([("loss", total / count)])


def validate(model, loader, loss_fn):
    model.eval()
    loss, right, count = 0.0, 0.0, 0
    with torch.no_grad():
        for inputs, target in loader:
            output = model(inputs)
            loss += loss_fn(output, target).item() * len(target)
            right += (output.argmax(1) == target).sum().item()
            count += len(target)
    return OrderedDict([("loss", loss / count), ("top1", 100 * right / count)])


def main():
    logging.basicConfig(level=logging.INFO)
    args, args_text = _parse_args()
    random_seed(args.seed)
    if not os.path.isdir(args.data_dir):
        download(args.data_dir)
    dataset_train, dataset_eval = ImageFolder(args.data_dir, "train", True), ImageFolder(args.data_dir, "val", False)
    sampler = RepeatAugSampler(dataset_train, args.aug_repeats, args.seed) if args.aug_repeats else None
    loader_train = Normalized(
        DataLoader(
            dataset_train,
            batch_size=args.batch_size,
            shuffle=sampler is None,
            sampler=sampler,
            collate_fn=fast_collate,
            drop_last=True,
            num_workers=2,
            persistent_workers=True,
        )
    )
    loader_eval = Normalized(
        DataLoader(dataset_eval, batch_size=2 * args.batch_size, collate_fn=fast_collate, num_workers=1)
    )
    model = ConvNextish(len(CLASSES))
    optimizer = torch.optim.AdamW(param_groups_layer_decay(model, args.weight_decay), lr=args.lr)
    lr_scheduler = CosineLRScheduler(optimizer, args.epochs * len(loader_train), args.warmup_epochs * len(loader_train))
    model_ema = ModelEma(model, decay=0.99)
    start_epoch = 0
    if args.resume:
        saved = torch.load(args.resume, map_location="cpu")
        model.load_state_dict(saved["state_dict"])
        optimizer.load_state_dict(saved["optimizer"])
        model_ema.module.load_state_dict(saved["state_dict_ema"])
        start_epoch = saved["epoch"] + 1
        lr_scheduler.step_update(start_epoch * len(loader_train))
    output_dir = os.path.join(args.output, datetime.now().strftime("%Y%m%d-%H%M%S"))
    os.makedirs(output_dir)
    with open(os.path.join(output_dir, "args.yaml"), "w") as f:
        f.write(args_text)
    saver = CheckpointSaver(model, optimizer, model_ema, output_dir)
    mixup_fn = Mixup(mixup_alpha=args.mixup)
    for epoch in range(start_epoch, args.epochs):
        if sampler is not None:
            sampler.set_epoch(epoch)
        train_metrics = train_one_epoch(
            epoch, model, loader_train, optimizer, SoftTargetCrossEntropy(), args, lr_scheduler, model_ema, mixup_fn
        )
        eval_metrics = validate(model, loader_eval, nn.CrossEntropyLoss())
        ema_metrics = validate(model_ema.module, loader_eval, nn.CrossEntropyLoss())
        row = OrderedDict(
            epoch=epoch,
            **{"train_" + k: v for k, v in train_metrics.items()},
            **{"eval_" + k: v for k, v in ema_metrics.items()},
        )
        with open(os.path.join(output_dir, "summary.csv"), "a") as f:
            writer = csv.DictWriter(f, fieldnames=row.keys())
            if epoch == start_epoch:
                writer.writeheader()
            writer.writerow(row)
        _logger.info("%d %s %s", epoch, eval_metrics, ema_metrics)
        saver.save(epoch, metric=ema_metrics["top1"])


if __name__ == "__main__":
    main()
