"""Healthy trainers with unusual mechanics: how weights step, where gradients go, what is kept, where data come from."""

from zoo.cases import Healthy
from zoo.healthy.patients import lay_out

_RESUMED = {"resumable": True, "prepare": lay_out}
_ONCE = {"resumable": False, "prepare": lay_out}
_FOLDER = {"prepare": lay_out}
_SCRIPT = {"resumable": False, "seeded": False}

HEALTHY = tuple(
    Healthy(trainer.replace("_", "-"), f"zoo.healthy.mechanics_{room}:{trainer}", oddity, facts)
    for room, trainer, facts, oddity in (
        ("optimizers", "layerwise", _RESUMED, "Rates by layer, no decay on biases, the stem thawed later as a group of its own; data of no loader"),
        ("optimizers", "stages", _RESUMED, "The optimizer is made anew, of another kind, at the border of two stages"),
        ("optimizers", "two_paces", _RESUMED, "One optimizer steps at every batch, one at every second on the mean of two gradients"),
        ("optimizers", "sharp", _RESUMED, "SAM written by hand: a closure called twice, normalization counted once"),
        ("optimizers", "lion_agc", _RESUMED, "Lion written by hand, adaptive clipping per unit, gradient noise"),
        ("optimizers", "langevin", _RESUMED, "Langevin dynamics: a loss scaled to the data set, noise in every step"),
        ("gradients", "every_second", _ONCE, "Every second batch's gradient is measured and put aside"),
        ("gradients", "by_tokens", _RESUMED, "Summed losses over the number of valid samples of the whole accumulation"),
        ("gradients", "scaled_before_step", _RESUMED, "A growing accumulation whose gradients, not losses, are divided"),
        ("gradients", "half_scaler", _RESUMED, "float16 on the CPU, one scaler for two optimizers, accumulation"),
        ("gradients", "pcgrad", _RESUMED, "Conflicting gradients of two tasks are projected and written by hand"),
        ("gradients", "adversarial", _RESUMED, "A reversed gradient for the hospital, two loaders zipped"),
        ("gradients", "meta", _RESUMED, "An inner step per patient by functional_call, gradients through it"),
        ("states", "swapped", _RESUMED, "An average every second step, worn by the model in validation"),
        ("states", "recalibrated", _RESUMED, "Statistics estimated afresh on training data before each validation"),
        ("states", "frozen_norms", _RESUMED, "Normalization rests while the rest is tuned; dropout begins later"),
        ("states", "normed", _RESUMED, "Weight norm, spectral norm, an orthogonal layer, a tied decoder"),
        ("states", "quantized", _RESUMED, "A codebook of buffers that learns, lazy layers, recomputed activations"),
        ("states", "teacher", _RESUMED, "A mean teacher on every batch, both judged, right before training goes on"),
        ("losses", "negative", _RESUMED, "A loss below zero, no labels, two views by a generator of their own"),
        ("losses", "policy", _RESUMED, "A gate that blanks features, learned by its score"),
        ("losses", "balanced_tasks", _RESUMED, "Weights of two losses learn from the norms of their gradients"),
        ("losses", "lengths", _RESUMED, "Buckets of lengths, padding, sums over time"),
        ("losses", "sharded", _ONCE, "An endless stream of two workers and a thread that fetches; a part validates"),
        ("losses", "cached", _RESUMED, "A memory map that the first epoch fills"),
        ("files", "pieces", _FOLDER, "Weights in two files, the rest beside them, one rename of the folder"),
        ("files", "background", _FOLDER, "A thread writes the checkpoints"),
        ("files", "newest", _RESUMED, "The schedule is put back by its counter alone; resumes from its newest file"),
        ("growth", "sized", _RESUMED, "Called on zeros while it is built, in training mode and with gradients; validated by hand"),
        ("growth", "schedule_free", _RESUMED, "The optimizer swaps the weights between two points; the saved ones are those of validation"),
        ("growth", "growing", _RESUMED, "A block is added in the middle, its parameters as a new group"),
        ("growth", "adapters", _RESUMED, "Only adapters are trained and saved, the rest comes from a file of its own"),
        ("growth", "population", _ONCE, "The worst of three takes the weights of the best and mutates"),
        ("growth", "dqn", _ONCE, "A replay buffer, an agent that acts, a target replaced every second step"),
        ("returns", "reload_best", _ONCE, "The best weights come back whenever validation gets worse, and the rate is halved"),
        ("returns", "rollback", _ONCE, "A second look at the batch after the step, which is taken back if it did harm"),
        ("returns", "measured", _ONCE, "Norms are measured after the step by clipping at a million"),
        ("returns", "zeroth_order", _ONCE, "Two forward passes instead of a backward, no optimizer"),
        ("returns", "boosted", _ONCE, "Networks one after the other on what the frozen ones leave over"),
        ("returns", "masked_mae", _ONCE, "Most of each window is blanked, one window altogether"),
        ("ranks", "local_steps", _ONCE, "Two ranks step alone and average their weights every second step"),
    )
) + (
    Healthy("critic", "critic.py", "A critic whose last bias no difference can move, three steps for one of the generator", _SCRIPT),
    Healthy("pretrain-then-tune", "pretrain_then_tune.py", "Three stages with three optimizers in one script", _SCRIPT),
)  # fmt: skip
