"""python train.py configs/fcn_tiny.py --work-dir work_dirs/x --cfg-options runner.max_iters=12"""

import argparse
import ast
import copy
import os
import os.path as osp
import random
import runpy

import numpy as np
import torch
from core.data import Scenes, write
from core.registry import MODELS
from core.runner import CheckpointHook, EvalHook, IterBasedRunner, OptimizerHook, PolyLrHook
from torch.utils.data import DataLoader


def parse_args():
    parser = argparse.ArgumentParser(description="Train a segmentor")
    parser.add_argument("config")
    parser.add_argument("--work-dir")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cfg-options", nargs="+", default=[])
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = {k: v for k, v in runpy.run_path(args.config).items() if not k.startswith("_")}
    for option in args.cfg_options:
        key, value = option.split("=")
        *parents, last = key.split(".")
        node = cfg
        for parent in parents:
            node = node[parent]
        node[last] = ast.literal_eval(value)
    work_dir = args.work_dir or osp.join("./work_dirs", osp.splitext(osp.basename(args.config))[0])
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    if not os.path.isdir(cfg["data"]["root"]):
        write(cfg["data"]["root"])
    train = DataLoader(
        Scenes(cfg["data"]["root"], "train", cfg["crop"]), cfg["data"]["samples_per_gpu"], shuffle=True, drop_last=True
    )
    val = DataLoader(Scenes(cfg["data"]["root"], "val"), 1)
    model = MODELS.build(copy.deepcopy(cfg["model"]))
    opt = dict(cfg["optimizer"])
    groups = [
        {"params": model.backbone.parameters()},
        {
            "params": [*model.decode_head.parameters(), *model.auxiliary_head.parameters()],
            "lr": opt["lr"] * cfg["paramwise"]["head_lr_mult"],
        },
    ]
    optimizer = getattr(torch.optim, opt.pop("type"))(groups, **opt)
    runner = IterBasedRunner(model, optimizer, work_dir, cfg["runner"]["max_iters"])
    runner.hooks = [
        PolyLrHook(**cfg["lr_config"]),
        OptimizerHook(),
        CheckpointHook(**cfg["checkpoint"]),
        EvalHook(val, classes=cfg["num_classes"], **cfg["evaluation"]),
    ]
    runner.run(train)


if __name__ == "__main__":
    main()
