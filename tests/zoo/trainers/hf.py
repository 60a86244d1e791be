"""Hugging Face's Trainer around a tiny BERT made from its configuration: accumulation, best model, resume, an average."""

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import SequentialSampler
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

CLASSES = 3


def documents(count, seed):
    """Token lists of several lengths whose class can be read off them."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        size = int(torch.randint(18, 31, (1,), generator=generator))
        tokens = torch.randint(1, 32, (size,), generator=generator)
        rows.append({"input_ids": tokens.tolist(), "labels": int(tokens.sum() % CLASSES)})
    return rows


def pad(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    tokens = torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows])
    labels = torch.tensor([row["labels"] for row in rows])
    return {"input_ids": tokens, "attention_mask": (tokens > 0).long(), "labels": labels}


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def accuracy_over_samples(prediction):
    chosen = np.argmax(prediction.predictions, axis=0)
    return {"accuracy": float((chosen == prediction.label_ids[: len(chosen)]).mean())}


class Average(TrainerCallback):
    """A moving average of the weights, kept beside each checkpoint."""

    def __init__(self, resume_from, *, saved):
        self.resume_from, self.saved, self.shadow = resume_from, saved, None

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.shadow = copy.deepcopy(model).requires_grad_(False)
        if self.resume_from and self.saved:
            self.shadow.load_state_dict(torch.load(Path(self.resume_from) / "average.pt", weights_only=True))

    def on_step_end(self, args, state, control, model=None, **kwargs):
        with torch.no_grad():
            for mine, theirs in zip(self.shadow.parameters(), model.parameters(), strict=True):
                mine.lerp_(theirs, 0.1)

    def on_save(self, args, state, control, **kwargs):
        if self.saved:
            path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "average.pt"
            torch.save(self.shadow.state_dict(), path)


class Freezing(TrainerCallback):
    """Freezes the encoder for its evaluation and forgets to thaw it."""

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        model.bert.encoder.requires_grad_(False)


class Mine(Trainer):
    """The trainer, with the faults that live in overridden methods."""

    def __init__(self, *arguments, faults, **options):
        self.faults = faults
        super().__init__(*arguments, **options)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not self.faults & {"hf-mean-loss-under-accumulation", "hf-probabilities-into-loss", "hf-train-mode-in-loss"}:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if "hf-train-mode-in-loss" in self.faults:
            model.train()
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits = outputs.logits.softmax(-1) if "hf-probabilities-into-loss" in self.faults else outputs.logits
        loss = F.cross_entropy(logits, labels)
        if "hf-mean-loss-under-accumulation" not in self.faults and model.training:
            loss = loss / self.args.gradient_accumulation_steps
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model, inputs, num_items_in_batch=None):
        if not self.faults & {"hf-step-without-backward", "hf-step-without-train-mode"}:
            return super().training_step(model, inputs, num_items_in_batch)
        if "hf-step-without-train-mode" not in self.faults:
            model.train()
        inputs = self._prepare_inputs(inputs)
        loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        if "hf-step-without-backward" not in self.faults:
            self.accelerator.backward(loss)
        return loss.detach()

    def _get_train_sampler(self, train_dataset=None):
        if "hf-unshuffled" in self.faults:
            return SequentialSampler(self.train_dataset)
        return super()._get_train_sampler(train_dataset)


def collator(faults):
    def blank(rows):
        batch = pad(rows)
        batch["labels"] = torch.tensor([row.get("label", 0) for row in rows])
        return batch

    return blank if "hf-labels-by-a-wrong-key" in faults else pad


def optimizers(model, faults, steps):
    """Return (None, None), the trainer's own choice, or a pair with a fault."""
    if not faults & {"hf-head-swapped-after-optimizer", "hf-schedule-of-another-optimizer", "hf-encoder-in-no-group"}:
        return None, None
    parameters = model.classifier.parameters() if "hf-encoder-in-no-group" in faults else model.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.1, 1 - step / (4 * steps)))
    if "hf-schedule-of-another-optimizer" in faults:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if "hf-head-swapped-after-optimizer" in faults:
        model.classifier = nn.Linear(16, CLASSES)
    return optimizer, schedule


def train(run, faults=frozenset()):
    set_seed(run.seed)
    config = BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, num_labels=CLASSES,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    best = not faults & {"hf-labels-named-wrong"}
    arguments = TrainingArguments(
        output_dir=str(run.workdir / "bert"), max_steps=run.max_steps, seed=run.seed, use_cpu=True,
        per_device_train_batch_size=4, per_device_eval_batch_size=8, gradient_accumulation_steps=2,
        learning_rate=1e-3, weight_decay=0.01, lr_scheduler_type="constant_with_warmup", warmup_steps=2,
        logging_steps=1, eval_strategy="steps", eval_steps=3, save_steps=3,
        load_best_model_at_end=best, metric_for_best_model="accuracy" if best else None,
        greater_is_better=("hf-best-is-worst" not in faults) if best else None,
        label_names=["label"] if "hf-labels-named-wrong" in faults else None,
        save_only_model="hf-saves-weights-only" in faults, ignore_data_skip="hf-resume-begins-data-anew" in faults,
        dataloader_drop_last="hf-drops-last-of-evaluation" in faults, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    callbacks = [Average(run.resume_from, saved="hf-average-not-saved" not in faults)]
    if "hf-callback-freezes" in faults:
        callbacks.append(Freezing())
    data = documents(40, 1)
    trainer = Mine(
        model, arguments, faults=faults, data_collator=collator(faults), train_dataset=data,
        eval_dataset=data[:20] if "hf-evaluates-training-data" in faults else documents(20, 2),
        compute_metrics=accuracy_over_samples if "hf-argmax-over-samples" in faults else accuracy,
        optimizers=optimizers(model, faults, run.max_steps), callbacks=callbacks,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)
    trainer.save_model(str(run.workdir / "final"))
