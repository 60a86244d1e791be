"""An estimator around a module, in the manner of skorch: made in initialize, callbacks, a history, an own split."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedShuffleSplit
from torch.utils.data import DataLoader, Subset, TensorDataset


class History(list):
    def new_epoch(self):
        self.append({"batches": []})

    def record(self, key, value):
        self[-1][key] = value


class ValidSplit:
    def __init__(self, share=0.25, seed=0):
        self.share, self.seed = share, seed

    def __call__(self, dataset, y):
        train, valid = next(
            StratifiedShuffleSplit(1, test_size=self.share, random_state=self.seed).split(np.zeros(len(y)), y)
        )
        return Subset(dataset, train), Subset(dataset, valid)


class NeuralNetClassifier(ClassifierMixin, BaseEstimator):
    def __init__(
        self,
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=1e-3,
        max_epochs=4,
        batch_size=16,
        train_split=None,
        callbacks=(),
        module_kwargs=None,
        optimizer_kwargs=None,
    ):
        self.module, self.criterion, self.optimizer, self.lr, self.max_epochs = (
            module,
            criterion,
            optimizer,
            lr,
            max_epochs,
        )
        self.batch_size, self.train_split, self.callbacks = batch_size, train_split, callbacks
        self.module_kwargs, self.optimizer_kwargs = module_kwargs, optimizer_kwargs

    def initialize(self):
        self.module_ = self.module(**(self.module_kwargs or {}))
        self.criterion_ = self.criterion()
        self.optimizer_ = self.optimizer(self.module_.parameters(), lr=self.lr, **(self.optimizer_kwargs or {}))
        self.history_ = History()
        self.callbacks_ = [callback() for callback in self.callbacks]
        self.initialized_ = True
        return self

    def notify(self, name, **kwargs):
        for callback in self.callbacks_:
            getattr(callback, name, lambda *_, **__: None)(self, **kwargs)

    def train_step_single(self, Xi, yi):
        self.module_.train()
        loss = self.criterion_(self.module_(Xi), yi)
        loss.backward()
        return {"loss": loss}

    def train_step(self, batch):
        kept = {}

        def step_fn():
            self.optimizer_.zero_grad()
            kept.update(self.train_step_single(*batch))
            self.notify("on_grad_computed")
            return kept["loss"]

        self.optimizer_.step(step_fn)
        return kept

    def validation_step(self, batch):
        self.module_.eval()
        with torch.no_grad():
            y_pred = self.module_(batch[0])
            return {"loss": self.criterion_(y_pred, batch[1]), "right": (y_pred.argmax(1) == batch[1]).sum()}

    def run_single_epoch(self, iterator, prefix, step):
        total = count = right = 0
        for batch in iterator:
            out = step(batch)
            total, count = total + float(out["loss"]) * len(batch[1]), count + len(batch[1])
            right += int(out.get("right", 0))
            self.notify("on_batch_end", training=prefix == "train")
        self.history_.record(prefix + "_loss", total / count)
        if prefix == "valid":
            self.history_.record("valid_acc", right / count)

    def partial_fit(self, X, y):
        if not getattr(self, "initialized_", False):
            self.initialize()
        dataset = TensorDataset(torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y))
        train, valid = self.train_split(dataset, y) if self.train_split else (dataset, None)
        self.notify("on_train_begin")
        try:
            for _ in range(self.max_epochs):
                self.history_.new_epoch()
                self.run_single_epoch(
                    DataLoader(train, self.batch_size, shuffle=True, drop_last=True), "train", self.train_step
                )
                if valid is not None:
                    self.run_single_epoch(DataLoader(valid, self.batch_size), "valid", self.validation_step)
                self.notify("on_epoch_end")
        except KeyboardInterrupt:
            pass
        self.notify("on_train_end")
        return self

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.initialize()
        return self.partial_fit(X, y)

    def predict(self, X):
        self.module_.eval()
        out = []
        for (batch,) in DataLoader(TensorDataset(torch.as_tensor(X, dtype=torch.float32)), self.batch_size):
            with torch.no_grad():
                out.append(self.module_(batch).argmax(1).numpy())
        return np.concatenate(out)
