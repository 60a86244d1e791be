"""A trainer after the manner of Hugging Face's: arguments, callbacks, checkpoints in numbered folders, exact resume."""

import json
import math
import os
import random
import re
import shutil
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler


@dataclass
class TrainingArguments:
    output_dir: str = "out"
    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 2
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    num_train_epochs: float = 3.0
    max_steps: int = -1
    warmup_ratio: float = 0.1
    eval_steps: int = 2
    save_steps: int = 2
    save_total_limit: int = 2
    seed: int = 42
    load_best_model_at_end: bool = True
    resume_from_checkpoint: str = ""


class TrainerCallback:
    def on_event(self, name, args, state, **kwargs):
        method = getattr(self, name, None)
        if method:
            method(args, state, **kwargs)


class JsonLog(TrainerCallback):
    def on_log(self, args, state, logs=None, **_):
        with open(os.path.join(args.output_dir, "log.jsonl"), "a") as f:
            f.write(json.dumps({**logs, "step": state["global_step"]}) + "\n")


class Trainer:
    def __init__(self, model, args, train_dataset, eval_dataset, data_collator, compute_metrics, callbacks=()):
        self.model, self.args, self.train_dataset, self.eval_dataset = model, args, train_dataset, eval_dataset
        self.data_collator, self.compute_metrics, self.callbacks = data_collator, compute_metrics, list(callbacks)
        self.state = {
            "global_step": 0,
            "epoch": 0.0,
            "best_metric": None,
            "best_model_checkpoint": None,
            "log_history": [],
        }

    def call(self, name, **kwargs):
        for callback in self.callbacks:
            callback.on_event(name, self.args, self.state, **kwargs)

    def get_train_dataloader(self):
        generator = torch.Generator()
        generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
        return DataLoader(
            self.train_dataset,
            self.args.per_device_train_batch_size,
            sampler=RandomSampler(self.train_dataset, generator=generator),
            collate_fn=self.data_collator,
        )

    def create_optimizer_and_scheduler(self, total):
        no_decay = {n for n, _ in self.model.named_parameters() if n.endswith("bias") or "norm" in n}
        groups = [
            {
                "params": [p for n, p in self.model.named_parameters() if n not in no_decay],
                "weight_decay": self.args.weight_decay,
            },
            {"params": [p for n, p in self.model.named_parameters() if n in no_decay], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate)
        warmup = math.ceil(total * self.args.warmup_ratio)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda s: s / max(1, warmup) if s < warmup else max(0.0, (total - s) / max(1, total - warmup)),
        )

    def train(self, resume_from_checkpoint=None):
        args = self.args
        per_epoch = math.ceil(len(self.train_dataset) / args.per_device_train_batch_size)
        updates = max(per_epoch // args.gradient_accumulation_steps, 1)
        total = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * updates)
        self.create_optimizer_and_scheduler(total)
        skip = 0
        if resume_from_checkpoint:
            self._load(resume_from_checkpoint)
            skip = self.state["global_step"] % updates * args.gradient_accumulation_steps
        self.call("on_train_begin")
        self.model.train()
        running, epoch = torch.tensor(0.0), self.state["global_step"] // updates
        while self.state["global_step"] < total:
            random_state = self.saved_rng if skip else None
            torch.manual_seed(args.seed + epoch)
            loader = self.get_train_dataloader()
            batches = iter(loader)
            for step in range(per_epoch):
                inputs = next(batches)
                if step < skip:
                    continue
                if random_state is not None:
                    self._set_rng(random_state)
                    random_state = None
                loss = self.model(**inputs)["loss"] / args.gradient_accumulation_steps
                loss.backward()
                running += loss.detach()
                if (step + 1) % args.gradient_accumulation_steps == 0:
                    torch.nn.utils.clip_grad_norm_(self.model.parameters(), args.max_grad_norm)
                    self.optimizer.step()
                    self.lr_scheduler.step()
                    self.model.zero_grad()
                    self.state["global_step"] += 1
                    self.state["epoch"] = epoch + (step + 1) / per_epoch
                    self.call(
                        "on_log", logs={"loss": running.item(), "learning_rate": self.lr_scheduler.get_last_lr()[0]}
                    )
                    running -= running
                    self._maybe_evaluate_save()
                    if self.state["global_step"] >= total:
                        break
            epoch, skip = epoch + 1, 0
        if args.load_best_model_at_end and self.state["best_model_checkpoint"]:
            self.model.load_state_dict(
                torch.load(os.path.join(self.state["best_model_checkpoint"], "pytorch_model.bin"))
            )
        self.call("on_train_end")

    def _maybe_evaluate_save(self):
        step = self.state["global_step"]
        metrics = None
        if step % self.args.eval_steps == 0:
            metrics = self.evaluate()
            self.call("on_log", logs=metrics)
        if step % self.args.save_steps == 0:
            folder = os.path.join(self.args.output_dir, f"checkpoint-{step}")
            if metrics and (self.state["best_metric"] is None or metrics["eval_accuracy"] > self.state["best_metric"]):
                self.state.update(best_metric=metrics["eval_accuracy"], best_model_checkpoint=folder)
            self._save(folder)
            self._rotate()

    def _rng(self):
        return {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}

    def _set_rng(self, states):
        random.setstate(states["python"])
        np.random.set_state(states["numpy"])
        torch.random.set_rng_state(states["cpu"])

    def _save(self, folder):
        os.makedirs(folder, exist_ok=True)
        torch.save(self.model.state_dict(), os.path.join(folder, "pytorch_model.bin"))
        torch.save(self.optimizer.state_dict(), os.path.join(folder, "optimizer.pt"))
        torch.save(self.lr_scheduler.state_dict(), os.path.join(folder, "scheduler.pt"))
        torch.save(self._rng(), os.path.join(folder, "rng_state.pth"))
        torch.save(asdict(self.args), os.path.join(folder, "training_args.bin"))
        with open(os.path.join(folder, "trainer_state.json"), "w") as f:
            json.dump(self.state, f, indent=2)

    def _load(self, folder):
        self.model.load_state_dict(torch.load(os.path.join(folder, "pytorch_model.bin")))
        self.optimizer.load_state_dict(torch.load(os.path.join(folder, "optimizer.pt")))
        self.lr_scheduler.load_state_dict(torch.load(os.path.join(folder, "scheduler.pt")))
        self.saved_rng = torch.load(os.path.join(folder, "rng_state.pth"), weights_only=False)
        self._set_rng(self.saved_rng)
        with open(os.path.join(folder, "trainer_state.json")) as f:
            self.state = json.load(f)

    def _rotate(self):
        found = sorted(
            (int(m.group(1)), name)
            for name in os.listdir(self.args.output_dir)
            if (m := re.match(r"checkpoint-(\d+)$", name))
        )
        best = os.path.basename(self.state["best_model_checkpoint"] or "")
        removable = [name for _, name in found if name != best]
        for name in removable[: max(0, len(found) - self.args.save_total_limit)]:
            shutil.rmtree(os.path.join(self.args.output_dir, name))

    def evaluate(self):
        self.model.eval()
        logits, labels = [], []
        for inputs in DataLoader(self.eval_dataset, 8, collate_fn=self.data_collator):
            with torch.no_grad():
                out = self.model(**inputs)
            logits.append(out["logits"].numpy())
            labels.append(inputs["labels"].numpy())
        self.model.train()
        return {
            f"eval_{k}": v for k, v in self.compute_metrics((np.concatenate(logits), np.concatenate(labels))).items()
        }
