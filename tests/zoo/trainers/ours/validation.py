"""Faults of validation and its scores."""

from dataclasses import replace

from zoo.trainers.ours.planting import plants


@plants
def evaluated_in_training_mode():
    from brainbrr.training.validation import Validation

    yield Validation, "run", lambda self, model, advance, stop: self._run(model, advance, stop)


@plants
def validation_builds_graphs():
    from brainbrr.training.validation import Validation

    yield Validation, "_run", Validation._run.__wrapped__


@plants
def validation_reseeds():
    import torch
    from brainbrr.training.validation import Validation

    original = Validation.run

    def run(self, *args):
        torch.manual_seed(0)
        return original(self, *args)

    yield Validation, "run", run


@plants
def scores_out_of_range():
    from brainbrr.training import validation

    original = validation.SampleTally.scores

    def scores(self):
        # By the number of windows instead of that of their samples.
        return tuple(replace(score, value=score.value * 15_360) for score in original(self))

    yield validation.SampleTally, "scores", scores


@plants
def best_mode_inverted():
    from brainbrr.training.validation import Scores

    yield Scores, "better", lambda self, metric: -getattr(self, metric)
