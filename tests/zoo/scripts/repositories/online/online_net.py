"""A classifier with partial_fit."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import StandardScaler


class OnlineClassifier(ClassifierMixin, BaseEstimator):
    def __init__(self, hidden=16, passes=2, lr=0.02):
        self.hidden, self.passes, self.lr = hidden, passes, lr

    def partial_fit(self, X, y, classes=None):
        if not hasattr(self, "net_"):
            self.classes_ = np.asarray(classes if classes is not None else np.unique(y))
            self.scaler_ = StandardScaler()
            self.net_ = torch.nn.Sequential(
                torch.nn.Linear(X.shape[1], self.hidden),
                torch.nn.ReLU(),
                torch.nn.Linear(self.hidden, len(self.classes_)),
            )
            self.opt_ = torch.optim.SGD(self.net_.parameters(), lr=self.lr, momentum=0.5)
        X = torch.as_tensor(self.scaler_.partial_fit(X).transform(X), dtype=torch.float32)
        y = torch.as_tensor(np.searchsorted(self.classes_, y))
        self.net_.train()
        for _ in range(self.passes):
            for rows in np.array_split(np.random.permutation(len(X)), 2):
                loss = torch.nn.functional.cross_entropy(self.net_(X[rows]), y[rows])
                self.opt_.zero_grad()
                loss.backward()
                self.opt_.step()
        return self

    @torch.no_grad()
    def predict_proba(self, X):
        self.net_.eval()
        return self.net_(torch.as_tensor(self.scaler_.transform(X), dtype=torch.float32)).softmax(1).numpy()

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(1)]
