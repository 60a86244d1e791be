"""An engine with events in the manner of Ignite: trainer, two evaluators, handlers attached by decorators."""

import functools
import itertools
import logging
import os
from collections import defaultdict
from enum import Enum

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Events(str, Enum):
    STARTED = "started"
    EPOCH_STARTED = "epoch_started"
    ITERATION_COMPLETED = "iteration_completed"
    EPOCH_COMPLETED = "epoch_completed"
    COMPLETED = "completed"


class Engine:
    def __init__(self, process):
        self.process, self.handlers, self.state = (
            process,
            defaultdict(list),
            type("State", (), {"epoch": 0, "iteration": 0, "metrics": {}, "output": None})(),
        )
        self.should_terminate = False

    def on(self, event, every=1):
        def decorator(function):
            self.add_event_handler(event, function, every=every)
            return function

        return decorator

    def add_event_handler(self, event, function, *args, every=1):
        counter = itertools.count(1)
        self.handlers[event].append(lambda: function(self, *args) if next(counter) % every == 0 else None)

    def fire(self, event):
        for handler in self.handlers[event]:
            handler()

    def run(self, data, max_epochs=1):
        self.state.epoch, self.should_terminate = 0, False
        self.fire(Events.STARTED)
        while self.state.epoch < max_epochs and not self.should_terminate:
            self.state.epoch += 1
            self.fire(Events.EPOCH_STARTED)
            for batch in data:
                self.state.iteration += 1
                self.state.output = self.process(self, batch)
                self.fire(Events.ITERATION_COMPLETED)
                if self.should_terminate:
                    break
            self.fire(Events.EPOCH_COMPLETED)
        self.fire(Events.COMPLETED)
        return self.state


class Average:
    def __init__(self, transform):
        self.transform = transform

    def attach(self, engine, name):
        engine.add_event_handler(Events.STARTED, lambda e: setattr(self, "pairs", []))
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: self.pairs.append(self.transform(e.state.output))
        )
        engine.add_event_handler(
            Events.COMPLETED,
            lambda e: e.state.metrics.update({name: sum(v * n for v, n in self.pairs) / sum(n for _, n in self.pairs)}),
        )


class EarlyStopping:
    def __init__(self, patience, score, trainer):
        self.patience, self.score, self.trainer, self.best, self.count = patience, score, trainer, None, 0

    def __call__(self, engine):
        value = self.score(engine)
        if self.best is None or value > self.best:
            self.best, self.count = value, 0
        else:
            self.count += 1
            self.trainer.should_terminate = self.count >= self.patience


class ModelCheckpoint:
    def __init__(self, dirname, prefix, score, n_saved):
        self.dirname, self.prefix, self.score, self.n_saved, self.saved = dirname, prefix, score, n_saved, []
        os.makedirs(dirname, exist_ok=True)

    def __call__(self, engine, objects):
        value = self.score(engine)
        if len(self.saved) == self.n_saved and value <= self.saved[0][0]:
            return
        name = os.path.join(self.dirname, f"{self.prefix}_score={value:.4f}_{next(self.numbers)}.pt")
        torch.save({k: o.state_dict() for k, o in objects.items()}, name)
        self.saved = sorted([*self.saved, (value, name)])
        if len(self.saved) > self.n_saved:
            os.remove(self.saved.pop(0)[1])

    numbers = itertools.count()


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(3)
    steps = torch.randn(80, 1, 30).cumsum(-1)
    labels = (steps[:, 0, -1] > steps[:, 0, 0]).float()
    train_set, val_set = random_split(TensorDataset(steps, labels), [60, 20])
    train_loader = DataLoader(train_set, batch_size=10, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=20)
    model = nn.Sequential(
        nn.Conv1d(1, 8, 5),
        nn.ReLU(),
        nn.Conv1d(8, 8, 5, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(3),
        nn.Flatten(),
        nn.Linear(24, 1),
    )
    optimizer = torch.optim.NAdam(model.parameters(), lr=3e-3)

    def update(engine, batch):
        model.train()
        optimizer.zero_grad()
        x, y = batch
        y_pred = model(x).squeeze(-1)
        loss = F.binary_cross_entropy_with_logits(y_pred, y)
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), "y": y, "y_pred": y_pred.detach()}

    def inference(engine, batch):
        model.eval()
        with torch.no_grad():
            x, y = batch
            return model(x).squeeze(-1), y

    trainer, train_evaluator, evaluator = Engine(update), Engine(inference), Engine(inference)
    for each in (train_evaluator, evaluator):
        Average(lambda out: (((out[0] > 0).float() == out[1]).float().mean().item(), len(out[1]))).attach(
            each, "accuracy"
        )
        Average(lambda out: (F.binary_cross_entropy_with_logits(*out).item(), len(out[1]))).attach(each, "nll")

    @trainer.on(Events.ITERATION_COMPLETED, every=2)
    def log_training_loss(engine):
        logging.info(
            "Epoch[%d] Iteration[%d] Loss: %.2f",
            engine.state.epoch,
            engine.state.iteration,
            engine.state.output["loss"],
        )

    @trainer.on(Events.EPOCH_COMPLETED)
    def log_results(engine):
        for name, each, data in (("Training", train_evaluator, train_loader), ("Validation", evaluator, val_loader)):
            metrics = each.run(data).metrics
            logging.info("%s Results - Epoch: %d  %s", name, engine.state.epoch, metrics)

    score = lambda engine: -engine.state.metrics["nll"]
    evaluator.add_event_handler(Events.COMPLETED, EarlyStopping(2, score, trainer))
    evaluator.add_event_handler(
        Events.COMPLETED,
        functools.partial(ModelCheckpoint("models", "best", score, 2)),
        {"model": model, "optimizer": optimizer},
    )
    trainer.run(train_loader, max_epochs=6)


if __name__ == "__main__":
    main()
