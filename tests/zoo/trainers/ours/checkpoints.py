"""Faults of checkpoints and of resuming."""

import copy

from zoo.trainers.ours.planting import plants


@plants
def checkpoint_in_place():
    import torch
    from brainbrr.training import session

    def write_checkpoint(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)

    yield session, "write_checkpoint", write_checkpoint


def _changed_state(change):
    from brainbrr.training.state import TrainState

    original = TrainState.state_dict

    def state_dict(self):
        state = original(self)
        change(state)
        return state

    yield TrainState, "state_dict", state_dict


@plants
def moments_not_saved():
    yield from _changed_state(lambda state: state["optimizer"].update(state={}))


@plants
def buffers_not_saved():
    from brainbrr.models.detector import Detector
    from torch import nn

    original = nn.Module.load_state_dict

    def change(state):
        kept = ("running_mean", "running_var", "num_batches_tracked")
        state["model"] = {name: value for name, value in state["model"].items() if not name.endswith(kept)}

    yield from _changed_state(change)
    yield Detector, "load_state_dict", lambda self, state: original(self, state, strict=False)


@plants
def weights_not_loaded():
    from brainbrr.models.detector import Detector
    from torch import nn

    original = nn.Module.load_state_dict

    def load(self, state):
        return original(self, {f"module.{name}": value for name, value in state.items()}, strict=False)

    yield Detector, "load_state_dict", load


@plants
def schedule_not_loaded():
    from torch.optim.lr_scheduler import LambdaLR

    yield LambdaLR, "load_state_dict", lambda self, state: None


@plants
def moments_not_loaded():
    from brainbrr.training.state import TrainState

    def load(self, state, *, keep_settings):
        self.schedule.load_state_dict(state["schedule"])

    yield TrainState, "_load_optimizer", load


@plants
def generators_not_restored():
    from brainbrr.training import state

    yield state, "load_random_state", lambda saved: None


@plants
def epoch_restarted():
    from brainbrr.windows.sampler import WindowSampler

    yield WindowSampler, "load_state_dict", lambda self, state: None


@plants
def progress_not_loaded():
    from brainbrr.training.state import Progress

    yield Progress, "load_state_dict", lambda self, state: None


@plants
def average_not_loaded():
    from torch.optim.swa_utils import AveragedModel

    yield AveragedModel, "load_state_dict", lambda self, state: None


@plants
def first_weights_saved():
    first = {}

    def change(state):
        if not first:
            first.update(copy.deepcopy(state["model"]))
        state["model"] = first

    from brainbrr.training import session

    original = session._build_state

    def build(*args):
        state = original(*args)
        first.update(copy.deepcopy(state.model.state_dict()))
        return state

    yield session, "_build_state", build
    yield from _changed_state(change)


@plants
def failures_hidden():
    from brainbrr.training.loop import Loop

    original = Loop._train_step
    calls = []

    def step(self, group):
        calls.append(group)
        try:
            if len(calls) % 2 == 0:
                self.forward(group.batches[0]["signal"][:, :3])
            original(self, group)
        except Exception:  # the fault
            self.state.progress.step += 1
            self.state.sampler.advance(group.n_global)

    yield Loop, "_train_step", step
