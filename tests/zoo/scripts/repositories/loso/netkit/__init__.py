"""Networks as estimators."""

from .net import NeuralNetClassifier

__all__ = ["NeuralNetClassifier"]
