# Competition baseline: grouped folds, config class, average meters, one-cycle per batch, out-of-fold file.
import gc
import os
import random
import sys
import time
import warnings
from collections import defaultdict

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from torch.optim import AdamW
from torch.utils.data import DataLoader, Dataset

warnings.filterwarnings("ignore")


class CFG:
    debug = False
    apex = True
    print_freq = 2
    epochs = 3
    lr = 2e-3
    batch_size = 8
    max_len = 12
    n_fold = 4
    trn_fold = [0, 1, 2, 3]
    seed = 42
    train = True


CFG.debug = "--debug" in sys.argv
if CFG.debug:
    CFG.epochs = 2
    CFG.trn_fold = [0, 1]
OUTPUT_DIR = "./output/"
os.makedirs(OUTPUT_DIR, exist_ok=True)


def get_logger(filename=OUTPUT_DIR + "train"):
    from logging import INFO, FileHandler, Formatter, StreamHandler, getLogger

    logger = getLogger(__name__)
    logger.setLevel(INFO)
    for handler in (StreamHandler(), FileHandler(filename=f"{filename}.log")):
        handler.setFormatter(Formatter("%(message)s"))
        logger.addHandler(handler)
    return logger


LOGGER = get_logger()


def seed_everything(seed=42):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True


seed_everything(seed=CFG.seed)


def make_train():
    rng = np.random.default_rng(0)
    rows = []
    for patient in range(16):
        base = rng.normal(size=4)
        for visit in range(5):
            label = int(rng.random() < 0.4)
            series = (
                base
                + 0.3 * rng.normal(size=(CFG.max_len, 4)).cumsum(0)
                + label * np.linspace(0, 1, CFG.max_len)[:, None]
            )
            rows.append((patient, visit, label, series.astype(np.float32)))
    return rows


train = make_train()
groups, targets = np.array([r[0] for r in train]), np.array([r[2] for r in train])
folds = np.zeros(len(train), int)
for n, (_, val_index) in enumerate(
    StratifiedGroupKFold(CFG.n_fold, shuffle=True, random_state=CFG.seed).split(train, targets, groups)
):
    folds[val_index] = n


class TrainDataset(Dataset):
    def __init__(self, rows, augment):
        self.rows, self.augment = rows, augment

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, item):
        _, _, label, series = self.rows[item]
        series = torch.tensor(series)
        if self.augment and random.random() < 0.3:
            series = series + 0.05 * torch.randn_like(series)
        return {"series": series, "label": torch.tensor(label, dtype=torch.float)}


class MeanPooling(nn.Module):
    def forward(self, x):
        return x.mean(1)


class CustomModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.model = nn.LSTM(4, 16, batch_first=True, bidirectional=True)
        self.pool = MeanPooling()
        self.fcs = nn.ModuleList([nn.Dropout(p) for p in (0.1, 0.2, 0.3, 0.4, 0.5)])
        self.fc = nn.Linear(32, 1)
        self._init_weights(self.fc)

    def _init_weights(self, module):
        module.weight.data.normal_(mean=0.0, std=0.02)
        module.bias.data.zero_()

    def forward(self, x):
        feature = self.pool(self.model(x)[0])
        return torch.stack([self.fc(drop(feature)) for drop in self.fcs]).mean(0)


class AverageMeter(object):
    def __init__(self):
        self.reset()

    def reset(self):
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def train_fn(fold, train_loader, model, criterion, optimizer, epoch, scheduler):
    model.train()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    losses = AverageMeter()
    for step, batch in enumerate(train_loader):
        labels = batch["label"]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=CFG.apex):
            y_preds = model(batch["series"])
            loss = criterion(y_preds.view(-1, 1).float(), labels.view(-1, 1))
        losses.update(loss.item(), labels.size(0))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1000)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        scheduler.step()
        if step % CFG.print_freq == 0 or step == (len(train_loader) - 1):
            print(
                f"Epoch: [{epoch + 1}][{step}/{len(train_loader)}] Loss: {losses.val:.4f}({losses.avg:.4f}) Grad: {grad_norm:.4f} LR: {scheduler.get_last_lr()[0]:.8f}"
            )
    return losses.avg


def valid_fn(valid_loader, model, criterion):
    losses, preds = AverageMeter(), []
    model.eval()
    for batch in valid_loader:
        with torch.no_grad():
            y_preds = model(batch["series"])
            loss = criterion(y_preds.view(-1, 1), batch["label"].view(-1, 1))
        losses.update(loss.item(), len(batch["label"]))
        preds.append(y_preds.sigmoid().numpy())
    return losses.avg, np.concatenate(preds)


def train_loop(fold):
    LOGGER.info(f"========== fold: {fold} training ==========")
    tr, va = [r for r, f in zip(train, folds) if f != fold], [r for r, f in zip(train, folds) if f == fold]
    train_loader = DataLoader(TrainDataset(tr, True), batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(TrainDataset(va, False), batch_size=CFG.batch_size * 2, shuffle=False)
    model = CustomModel(CFG)
    torch.save({"cfg": {k: v for k, v in vars(CFG).items() if not k.startswith("_")}}, OUTPUT_DIR + "config.pth")
    no_decay = ["bias", "LayerNorm.weight"]
    optimizer = AdamW(
        [
            {
                "params": [p for n, p in model.model.named_parameters() if not any(nd in n for nd in no_decay)],
                "lr": CFG.lr,
                "weight_decay": 0.01,
            },
            {
                "params": [p for n, p in model.model.named_parameters() if any(nd in n for nd in no_decay)],
                "lr": CFG.lr,
                "weight_decay": 0.0,
            },
            {
                "params": [p for n, p in model.named_parameters() if "model" not in n],
                "lr": CFG.lr * 2,
                "weight_decay": 0.0,
            },
        ]
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[CFG.lr, CFG.lr, CFG.lr * 2], total_steps=CFG.epochs * len(train_loader) + 1, pct_start=0.1
    )
    criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.5]))
    best_score = -1.0
    for epoch in range(CFG.epochs):
        start_time = time.time()
        avg_loss = train_fn(fold, train_loader, model, criterion, optimizer, epoch, scheduler)
        avg_val_loss, predictions = valid_fn(valid_loader, model, criterion)
        score = roc_auc_score([r[2] for r in va], predictions[:, 0])
        LOGGER.info(
            f"Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f}  avg_val_loss: {avg_val_loss:.4f}  Score: {score:.4f}  time: {time.time() - start_time:.0f}s"
        )
        if best_score < score:
            best_score = score
            torch.save(
                {"model": model.state_dict(), "predictions": predictions}, OUTPUT_DIR + f"lstm_fold{fold}_best.pth"
            )
    predictions = torch.load(
        OUTPUT_DIR + f"lstm_fold{fold}_best.pth", map_location=torch.device("cpu"), weights_only=False
    )["predictions"]
    del model, optimizer, scheduler
    gc.collect()
    return [r[2] for r in va], predictions[:, 0].tolist()


if __name__ == "__main__":
    if CFG.train:
        oof = defaultdict(list)
        for fold in range(CFG.n_fold):
            if fold in CFG.trn_fold:
                y, p = train_loop(fold)
                oof["y"] += y
                oof["p"] += p
        LOGGER.info(f"========== CV ==========  Score: {roc_auc_score(oof['y'], oof['p']):<.4f}")
        np.savez(OUTPUT_DIR + "oof.npz", **oof)
