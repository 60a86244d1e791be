"""Faults of optimizer, clipping, schedule and average."""

import copy

from zoo.trainers.ours.planting import plants


def _changed_optimizer(change):
    from brainbrr.training import session

    original = session.build_optimizer

    def build_optimizer(config, groups):
        optimizer = original(config, groups)
        change(optimizer)
        return optimizer

    yield session, "build_optimizer", build_optimizer


@plants
def gradients_never_zeroed():
    def change(optimizer):
        optimizer.zero_grad = lambda set_to_none=True: None

    yield from _changed_optimizer(change)


@plants
def decay_of_ten():
    def change(optimizer):
        for group in optimizer.param_groups:
            group["weight_decay"] = 10.0

    yield from _changed_optimizer(change)


@plants
def decay_on_state_matrices():
    from brainbrr.training import session

    original = session.parameter_groups

    def parameter_groups(model, decay):
        decaying, exempt = original(model, decay)
        moved = [one for one in exempt["params"] if getattr(one, "_no_weight_decay", False)]
        kept = [one for one in exempt["params"] if not getattr(one, "_no_weight_decay", False)]
        return [{**decaying, "params": decaying["params"] + moved}, {**exempt, "params": kept}]

    yield session, "parameter_groups", parameter_groups


@plants
def optimizer_of_head_only():
    from brainbrr.training import session

    original = session.parameter_groups
    yield session, "parameter_groups", lambda model, decay: original(model.head, decay)


@plants
def optimizer_of_a_copy():
    from brainbrr.training import session

    original = session.parameter_groups
    yield session, "parameter_groups", lambda model, decay: original(copy.deepcopy(model), decay)


@plants
def clipped_after_step():
    import torch
    from brainbrr.training.loop import Loop

    original = Loop._report_step

    def report(self, *args):
        torch.nn.utils.clip_grad_norm_(self._parameters, self.config.training.clip_norm or 1.0)
        original(self, *args)

    yield Loop, "_clip", lambda self, limit: torch.nn.utils.get_total_norm([p.grad for p in self._parameters])
    yield Loop, "_report_step", report


@plants
def clipped_to_nothing():
    from brainbrr.training.loop import Loop

    original = Loop._clip
    yield Loop, "_clip", lambda self, limit: original(self, 1e-9)


def _changed_schedule(change):
    from brainbrr.training import session

    original = session.build_schedule

    def build_schedule(*args):
        schedule = original(*args)
        change(schedule)
        return schedule

    yield session, "build_schedule", build_schedule


@plants
def schedule_never_stepped():
    from brainbrr.training.state import TrainState

    original = TrainState.state_dict

    def change(schedule):
        schedule.step = lambda: None

    def state_dict(self):
        state = original(self)
        state["schedule"].pop("step", None)
        return state

    yield from _changed_schedule(change)
    yield TrainState, "state_dict", state_dict


@plants
def schedule_counts_epochs():
    from brainbrr.training import session

    original = session.build_schedule
    yield session, "build_schedule", lambda config, optimizer, planned: original(config, optimizer, 2)


@plants
def average_never_updated():
    from torch.optim.swa_utils import AveragedModel

    yield AveragedModel, "update_parameters", lambda self, model: None
