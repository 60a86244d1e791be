"""Healthy trainers as public repositories have them: functions, and scripts in project folders of their own."""

from zoo.cases import Healthy

_FACTS = {"resumable": False, "prepare": None}


def _function(module, name, oddity):
    return Healthy(f"repo-{name.replace('_', '-')}", f"zoo.healthy.repositories_{module}:{name}", oddity, _FACTS)


_OPTIMIZERS = (
    ("sam", "Two backward passes and two half-steps; the first moves uphill"),
    ("lookahead", "A wrapper that sets the weights back every third step"),
    ("pcgrad", "A backward for each task, then gradients written by hand"),
    ("centralized", "Gradients without their mean; standardized weights; adaptive clipping by hand"),
    ("schedule_free", "The optimizer moves the weights to their average for evaluation and back"),
)
_VIEWS = (
    ("simclr", "The target is always class 0; labels serve a linear probe alone"),
    ("byol", "A target encoder that comes to be in the first call; views are made inside the model"),
    ("dino", "Crops of two sizes; gradients of the last layer are dropped in the first epoch"),
    ("fixmatch", "Two loaders, one call; most unlabeled samples count nothing at first"),
    ("triplet", "Batches of P classes with K samples; proxies in an optimizer of their own"),
    ("ohem", "Only the hardest half of a batch has a gradient; the sampler's weights change"),
)
_TASKS = (
    ("neural_ode", "An autograd function that calls a module inside backward"),
    ("nerf", "Rays of one image a step; coarse and fine fields; no loader"),
    ("reptile", "Gradients are differences of weights; inner optimizers come and go"),
    ("qat", "Rounded weights and activations; batch statistics freeze in the midst of an epoch"),
    ("gradual_pruning", "Weights are masked while training, and the masks grow"),
    ("unfreezing", "Parameter groups are added while training, each with a lower rate"),
)
_SHARES = (
    ("uncertainty", "Learned weights of three losses; two validation sets with two best files"),
    ("curriculum", "A scout fitted first; a pool that grows; a weight for each sample"),
    ("replicas", "Two copies of the model, gradients averaged and weights copied by hand"),
    ("prefetched", "A thread, recomputed blocks, an eager compile, bfloat16, a short last group"),
)
_SECOND = (
    ("swa_of_the_docs", "Two schedules on one optimizer, the second in turn after some epochs; averages begin late"),
    ("word_language_model", "A hidden state carried along a text; tied weights; plain updates by hand"),
    ("experts", "Experts without a token get no gradient in that step"),
    ("mutual", "Two models teach each other"),
    ("grown", "Layers and optimizers are added while training"),
    ("functional_ensemble", "Stacked parameters of five networks, called by vmap through a meta module"),
    ("refit", "Early stopping on a hold-out, which is trained on afterwards"),
    ("masters", "Float32 copies in the optimizer of a bfloat16 model; a static scale"),
    ("folds_from_one_start", "The same weights put back for each fold of one data set"),
)
_THIRD = (
    ("attacked", "Backward passes to the input in evaluation mode before each step"),
    ("vqvae", "A codebook in buffers that training calls move; labels unused"),
    ("flow", "Weights set by the first batch; a loss below zero"),
    ("towers", "Targets are row numbers; a parameter clamped after each step"),
    ("cached_gradients", "Codes without a graph, a surrogate backward for each chunk"),
    ("trials", "A search whose trials end by exceptions"),
    ("server", "Clients train copies; their mean difference is the gradient"),
    ("bayesian", "Weights drawn in each call; a divergence beside the loss"),
    ("features", "A head on features that were kept in a file"),
)

_SEED = {"seed_argument": "--seed {seed}"}
_PROJECTS = (
    ("muon", "train.py", "Shards without a loader; two optimizers; rate and momentum by hand; an evaluation before the first step", {}),
    ("timmlike", "train.py data -c recipe.yml", "Repeated augmentation, mixing after the loader, stochastic depth, an average, files linked and renamed", _SEED),
    ("yolo", "train.py", "Warm-up by interpolation, accumulation that grows, files in half precision", {}),
    ("segm", "train.py configs/fcn_tiny.py --work-dir work_dirs/x", "A registry, a configuration that is code, an auxiliary head, a layer left over from pretraining", {**_SEED, "steps_argument": "--cfg-options runner.max_iters={steps}"}),
    ("audio", "main.py train --workspace=. --balanced=balanced --augmentation=mixup", "Batches of indices for ever; pairs are mixed inside the model", {}),
    ("speech", "train.py --epochs 5", "Sorted first epoch, buckets, packed sequences, a rate divided by hand", _SEED),
    ("translate", "notebook.py", "A notebook: one pair a step, its own words as input, two optimizers", {}),
    ("recsys", "main.py", "Sparse gradients; negatives drawn anew for each epoch; one item left out for each user", {}),
    ("ddpm", "train.py --batch=4", "An endless loader, accumulation, samples drawn from the average", {"seed_argument": "--seed={seed}", "steps_argument": "--steps={steps}"}),
    ("td3", "td3.py --save_model", "Replay in numpy; the actor steps every second time; targets follow slowly", _SEED),
    ("hugging", "run_classification.py args.json", "Checkpoints in numbered folders, rotated; exact resume; data sets are lists", {**_SEED, "steps_argument": "--max_steps {steps}", "resume_argument": "--resume_from_checkpoint {checkpoint}", "resumable": None}),
    ("composed", "run.py recipe.yaml", "Algorithms on events: surgery, resizing, smoothing, weights swapped for evaluation", {}),
    ("events", "main.py", "An engine with handlers; the training set is evaluated beside the held-out one", {}),
    ("kaggle", "train.py --debug", "Grouped folds, one cycle each, a scaler switched off", {}),
    ("fastish", "train.py", "A rate finder that trains and puts everything back", {}),
    ("loso", "-m netkit.experiment", "An estimator; one subject left out after another; closures; weights renormed in place", {}),
    ("streams", "train.py", "Tar shards read by workers; an epoch without a length", {}),
    ("distill", "distill.py", "A teacher trained first by the same script; hints by hooks", {}),
    ("graph", "main.py", "One graph, masks, some nodes without a word; the best weights kept in memory", {}),
    ("online", "run_online.py", "Test, then train, on a stream; no epochs", {}),
    ("mae", "main.py", "Pretraining and fine-tuning in one script; a head that the first stage does not know", {}),
)  # fmt: skip

HEALTHY = tuple(
    _function(module, name, oddity)
    for module, rows in (
        ("optimizers", _OPTIMIZERS),
        ("views", _VIEWS),
        ("tasks", _TASKS),
        ("shares", _SHARES),
        ("second", _SECOND),
        ("third", _THIRD),
    )
    for name, oddity in rows
)
HEALTHY += tuple(
    Healthy(f"repo-{name}", f"repositories/at_home.py {name} {command}", oddity, {**_FACTS, **facts})
    for name, command, oddity, facts in _PROJECTS
)
