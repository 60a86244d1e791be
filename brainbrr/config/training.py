"""Sections about the run: ``run``, ``training``, ``checkpoints``, ``tracking``."""

from typing import Literal

from pydantic import Field

from brainbrr.config.base import Section


class Run(Section):
    """One run of the trainer."""

    name: str
    """Short name of the run."""
    output_dir: str
    """Folder for checkpoints, metrics and the run's record."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of every random number generator."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; ``auto`` takes CUDA where there is one."""
    existing: Literal["continue", "fresh"] = "continue"
    """What becomes of an earlier run in ``output_dir``: it goes on where it stopped, or it is moved aside."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of one process on the CPU, or null to leave them as they are. Another number changes the last bits."""
    deterministic: bool = False
    """Allow only operations that repeat bit for bit (``torch.use_deterministic_algorithms``)."""
    tf32: bool = True
    """Allow TF32 in matrix products and convolutions on CUDA."""


class Optimizer(Section):
    """What turns gradients into steps."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """Optimizer of ``torch.optim``."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Largest learning rate, reached after the warm-up."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay of the parameters that take it (weight matrices; not norms, biases and Mamba's A, D, dt)."""
    betas: tuple[float, float] = Field(default=(0.9, 0.999), strict=False)
    """Decay rates of the running moments (adamw, adam)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum (sgd)."""


class Schedule(Section):
    """How the learning rate goes over the planned optimizer steps."""

    name: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape after the warm-up."""
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the planned steps over which the rate rises linearly from its first fraction to its peak."""
    floor_share: float = Field(default=0.01, ge=0, le=1)
    """Rate after the last planned step, as a share of the peak (cosine, linear)."""


class Loss(Section):
    """What is minimised: the mean over the samples of a step that are valid."""

    name: Literal["focal", "bce"] = "focal"
    """Focal loss (Lin et al. 2017), or binary cross-entropy."""
    gamma: float = Field(default=2.0, ge=0)
    """Focusing exponent (focal)."""
    positive_weight: Literal["index", "none"] | float = "index"
    """Weight of a seizure sample: negatives per positive in the index of all training windows, none, or a number."""
    max_positive_weight: float = Field(default=20.0, ge=1)
    """Largest weight that ``index`` may give."""


class Validation(Section):
    """When and on what the model is scored during training."""

    split: Literal["dev", "none"] = "dev"
    """Split to score on, or none for no validation."""
    every_steps: int | None = Field(default=None, ge=1)
    """Validate after every so many steps, or null for the end of every epoch. The last planned step always does."""
    batch_size: int | None = Field(default=None, ge=1)
    """Windows in a batch, or null for that of training."""
    max_windows: int | None = Field(default=None, ge=1)
    """At most so many windows, spread evenly over the split, or null for all. (Events are scored by ``evaluate``.)"""
    metric: Literal["auroc", "auprc", "loss"] = "auroc"
    """What makes a checkpoint the best."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many validations without a better metric, or null for never."""
    min_improvement: float = Field(default=0.0, ge=0)
    """A metric counts as better only when it is better by more than this."""


class Training(Section):
    """The training loop."""

    epochs: int = Field(default=1, ge=1)
    """Passes over the sampler's windows."""
    max_steps: int | None = Field(default=None, ge=1)
    """Plan so many optimizer steps in place of ``epochs``; the schedule ends there."""
    pause_at_step: int | None = Field(default=None, ge=1)
    """End this session after the step of that number, as ``--max-steps`` does; the plan and its schedule stay."""
    batch_size: int = Field(default=8, ge=1)
    """Windows in a batch, over all processes."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients make one optimizer step."""
    workers: int = Field(default=0, ge=0)
    """Processes that load windows, for each process that trains."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Type of autocast; fp16 scales the loss and needs CUDA."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient, or null."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is scored, or null for none."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What to do, before the step, with a loss or gradient that is not finite."""
    max_nonfinite: int = Field(default=10, ge=1)
    """Stop after skipping so many steps."""
    log_every_steps: int = Field(default=10, ge=1)
    """Print a line after every so many steps where there is no terminal; ``metrics.jsonl`` gets every step."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    validation: Validation = Validation()


class Checkpoints(Section):
    """When checkpoints are written, and which are kept. The end of a session always writes one."""

    every_n_steps: int | None = Field(default=None, ge=1)
    """Write after every so many optimizer steps, or null."""
    every_minutes: float | None = Field(default=15.0, gt=0)
    """Write when so many minutes have gone since the last one, or null."""
    keep_last: int = Field(default=2, ge=1)
    """How many of the newest are kept; at least two survive a damaged file."""
    keep_best: int = Field(default=1, ge=0)
    """How many of the best by ``training.validation.metric`` are kept beside those."""


class Tracking(Section):
    """Where metrics go beside ``metrics.jsonl``."""

    tensorboard: bool = False
    """Write TensorBoard events below the output folder (extra ``trackers``)."""
    wandb: Literal["off", "offline", "online"] = "off"
    """Send metrics to Weights & Biases, or keep them below the output folder (extra ``trackers``)."""
    wandb_project: str = "brainbrr"
    """Project name at Weights & Biases."""
