# ruff: noqa: E501 (a table reads best with one field per line)
"""The words of a trace: every kind of event, its fields and their limits. Plain data, neither torch nor pytest.

Every event also carries the common fields:

=========  ======================================================================================``kind``   one of :data:`VOCABULARY`
``n``      order of the event in its process, from 0
``t``      seconds of the monotonic clock, comparable between processes of one machine
``pid``    process id
``role``   ``main``, ``worker`` (a data-loader worker) or ``rank`` (another training process). Where the main process only
           launches others, rank 0 stands for ``main`` and the launcher is ``launcher``
``step``   optimizer steps attempted so far in this process: the largest number any one optimizer (or scaler) has
           taken, so a GAN's two optimizers count once. Events of the first iteration have ``step == 0``.
``after``  True once the step limit was reached or the target returned: what follows was not the trainer's doing
=========  ======================================================================================
Identities are short strings, unique in one process and never reused: ``p3`` parameter or other leaf tensor, ``m1``
module, ``o1`` optimizer, ``s1`` scheduler, ``g1`` gradient scaler, ``l1`` loader, ``i1`` pass over a loader, ``d1``
dataset, ``c1`` copy of a model (EMA, teacher). They are *not* comparable between two runs; names are.

*Names* of parameters are the paths inside their root module (``encoder.conv.weight``); with several roots they are
prefixed by the root's label (``Generator/net.0.weight``). A tensor that an optimizer holds and no known module owns is
named ``<foreign>/o1.0.3`` (optimizer, group, place).

A *digest* is 8 hexadecimal digits (CRC-32 of the raw bytes, independent of the device) or None where a tensor's bytes
cannot be read (meta, fake, sparse, distributed tensors). Equal digests at equal shape and dtype: bitwise equal.

*Tensor facts* (``inputs``, ``outputs``, ``args``, ``tensors`` below) are mappings with ``at`` (place in the arguments:
``"0"``, ``"x"``, ``"0.signal"``), ``shape``, ``dtype`` (``float32``), ``device`` (``cpu``, ``cuda:0``), ``requires_grad``,
``grad_fn`` (True if it is part of a graph), ``digest``, ``samples`` (digest of each row of the first dimension; None
above 4096 rows or for scalars), ``finite``, ``min``, ``max``, ``mean``, ``rms`` (None for an empty tensor),
``constant`` (min == max), ``values`` (sorted distinct values when there are at most 16, else None), and, up to 256 rows,
else None: ``row_means`` (mean of each row; the values themselves in one dimension), ``row_rms``, ``forms`` (digest of where each
row rises, within its first 4096 steps: equal for one signal at any scale and offset; None for rows that hardly move), ``pieces`` (forms of the four quarters along the
last dimension, up to 64 rows: windows that overlap by quarters share some) and
``flat`` (indices of the second dimension that are constant along the third in every row).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of event: what it means, its fields, and what it cannot see."""

    meaning: str
    fields: dict[str, str]
    limits: str = ""


VOCABULARY: dict[str, Kind] = {
    # ------------------------------------------------------------------ the process and its surroundings
    "process": Kind(
        "a watched process begins, before any code of the target is imported",
        {
            "versions": "package -> version (python, torch, numpy, lightning, accelerate, transformers where installed)",
            "argv": "arguments of the target",
            "cwd": "working directory",
            "plan": "name of the plan: straight, repeat, ...",
            "seed": "run.seed",
            "max_steps": "run.max_steps",
            "resume_from": "path or None; like every path relative to the workdir where it lies below it",
            "data": "variant of the data asked for",
            "limit": "optimizer steps after which the run is stopped from outside, or None",
            "workdir": "directory of this run; paths in events below it are relative to it",
            "cut": "whether passes over loaders are cut short",
        },
    ),
    "settings": Kind(
        "torch's global switches, at the first forward call and again at the end if they changed",
        {
            "threads": "torch.get_num_threads()",
            "interop_threads": "torch.get_num_interop_threads()",
            "deterministic": "torch.are_deterministic_algorithms_enabled()",
            "cudnn_benchmark": "bool",
            "cudnn_deterministic": "bool",
            "default_dtype": "float32 ...",
            "matmul_precision": "highest, high, medium",
            "anomaly": "torch.is_anomaly_enabled()",
            "cuda_available": "bool",
            "cuda_initialized": "bool",
        },
    ),
    "environment_read": Kind(
        "first read of an environment variable by a piece of code outside the standard library and torch",
        {
            "name": "variable",
            "set": "whether it was set",
            "by": "module that read it",
            "at_import": "True if it was read while a module was being imported",
        },
        "os.environ only; os.getenv goes through it. Reads from C are not seen.",
    ),
    "file_open": Kind(
        "a file outside the installation was opened for the first time in this mode",
        {
            "path": "path",
            "mode": "read or write",
            "own": "whether the trainer's own code asked for it, by way of the standard library or not",
        },
        "Opens by C++ (torch.save to a path, HDF5, LMDB) are not seen here.",
    ),
    "configuration": Kind(
        "the trainer had a configuration at hand: parsed arguments, variables when an optimizer was made, files read before the first step (written by the parent)",
        {
            "source": "arguments, variable, file",
            "name": "of the variable, or path of the file",
            "values": "path (a.b.c) -> number, flag, word, None or short list of numbers",
            "undeclared": "attributes set on a dataclass that declares none of that name",
        },
        "Of variables and globals only those that are named or made like a configuration; not those of installed packages.",
    ),
    "file_left": Kind(
        "a file below the workdir after the run (written by the parent)",
        {"path": "relative path", "bytes": "size"},
    ),
    "metrics_file": Kind(
        "a small .csv, .jsonl or .ndjson file below the workdir after the run, or a history in .json that the run wrote (written by the parent)",
        {"path": "relative path", "rows": "list of mappings name -> value (numbers where they parse)"},
        "Files up to 1 MB, the first 2000 rows.",
    ),
    "warning": Kind(
        "a Python warning was raised, shown or not",
        {"category": "class name", "text": "first 400 characters", "by": "module that raised it"},
        "Repeated texts are recorded once per step.",
    ),
    "observer_error": Kind(
        "an observer failed; what depends on it is not observed from here on",
        {"observer": "name", "error": "exception and place"},
    ),
    "not_observed": Kind(
        "something happened that observers cannot look into",
        {
            "what": "short stable name: compiled_module, forward_called_directly, manual_update, spawned_process, ...",
            "why": "sentence",
            "where": "module path or None",
        },
    ),
    "exit": Kind(
        "the target ended",
        {
            "how": "returned, stopped (by the step limit), raised, system_exit, interrupted, killed, timeout",
            "code": "exit code as the shell would see it (0 for returned and stopped)",
            "exception": "class name or None",
            "message": "first 2000 characters of the exception's text",
            "traceback": "last 30 lines or None",
            "last_lines": "last 40 lines the run wrote to its console",
            "steps": "optimizer steps attempted",
            "seconds": "from the call of the target to its end, imports of the target included",
            "observing_seconds": "of which spent inside observers",
            "result": "repr of a returned number, str, bool or None, else the class name",
            "lingered": "names of threads or commands of processes that did nothing and kept the run from ending",
        },
    ),
    # ------------------------------------------------------------------ randomness
    "seed": Kind(
        "a seeding function was called",
        {
            "function": "torch.manual_seed, random.seed, numpy.random.seed, torch.set_rng_state, random.setstate, numpy.random.set_state, torch.seed, torch.cuda.manual_seed_all, numpy.random.default_rng",
            "value": "argument, or None",
            "by": "calling module",
        },
    ),
    "rng": Kind(
        "digests of the random generators' states",
        {
            "when": "begin, first_forward, step (after each optimizer step), epoch (a loader pass begins), phase (eval begins or ends), end",
            "torch": "digest",
            "numpy": "digest, None if numpy is not imported",
            "python": "digest",
            "cuda": "digest of the current device's, or None",
        },
    ),
    # ------------------------------------------------------------------ models
    "model": Kind(
        "a root module became known: the outermost owner of a module that was called. Recorded again (same id) when its "
        "parameters or its tree change (head swapped, layers frozen or unfrozen)",
        {
            "id": "m1",
            "label": "class name, made unique by -2, -3",
            "class": "qualified class",
            "wrapper": "True for DDP, compiled, Fabric and other known wrappers around another root",
            "why": "called, optimizer",
            "parameters": "list of parameter facts: id, name, shape, dtype, device, requires_grad, digest, elements, norm, constant, zero (all zeros), rows_equal "
            "(two or more rows, all alike), finite, owner (class of the owning module), parametrized (bool), no_decay (marked by _no_weight_decay), hooks (names of the trainer's own gradient hooks)",
            "tied": "lists of names that are one tensor",
            "buffers": "list of id, name, shape, dtype, device, digest, persistent",
            "modules": "list of path, class, training, attributes (numbers, strings, bools and short tuples: Dropout.p, Conv1d.stride, ...), state (parameter and buffer names it owns itself)",
            "unregistered": "list of attribute paths where modules or parameters sit in plain lists, dicts or tuples: path, count",
            "built_n": "order n of the event before which its first parameter was registered; compare with `seed` events. None if built before watching began",
            "seeds_before_build": "torch.manual_seed calls before its first parameter was registered",
        },
    ),
    "forward": Kind(
        "one call of a module that no other module encloses (usually the root itself)",
        {
            "call": "number of the call, from 0",
            "model": "id of the root",
            "path": "path of the called module in its root, '' for the root",
            "class": "class of the called module",
            "training": "its training flag",
            "mixed_modes": "paths of modules with parameters, buffers or randomness (dropout) whose flag differs (at most 64)",
            "grad_enabled": "torch.is_grad_enabled()",
            "inference_mode": "torch.is_inference_mode_enabled()",
            "autocast": "None or {device: dtype}",
            "inputs": "tensor facts of the arguments",
            "outputs": "tensor facts of the result",
            "seconds": "duration",
            "raised": "exception class or None",
            "scores": "without gradients: list of output, at (tensor of the batch delivered last), kind (numbers or classes), n, and sums over the batch: "
            "hits, confusion (hits, false alarms and misses of class 1), both also as _half (with the threshold 0.5 in place of 0), absolute, squared (differences), outside (values beyond 0 to 1)",
            "inner": "list per inner module called: path, class, calls, training, inputs and outputs (lists of [shape, dtype, device]), finite, "
            "min, max, mean (of the first output, the mean of at most 65536 of its elements; None unless `inner_numbers`), dead ([first, following, of]: the one stretch of a layer's inputs, made by other layers, that is zero throughout; "
            "from 8 and a quarter of them; None unless `inner_numbers`), grad_fn. None when the same as in the last call of this model with the same modes",
            "inner_numbers": "whether inner statistics were taken in this call (first two calls with gradient, first two without)",
            "loader": "[pass id, position] of the batch delivered last before this call in this process, or None",
            "phase": "added by Trace: train if a backward reached its output, else eval if gradients were off or the call stands in validation, else unused",
        },
        "Functions and `.forward` called directly leave no event; their modules show up as `not_observed` when their parameters get gradients.",
    ),
    "output_grad": Kind(
        "the gradient that arrived at an output of a watched call, for the first 16 of them",
        {
            "call": "number of the forward call",
            "at": "place in its outputs",
            "shape": "of the output",
            "rows": "per row, whether any gradient is other than zero; None above 256 rows",
            "live": "the places along axis 1 with such a gradient, a table in hexadecimal digits, or None",
            "live_last": "of three dimensions, the places along axis 2, or None",
            "pull": "for each tensor of the batch that could be the label: at, and how many gradients pull the output towards it and push it away",
        },
    ),
    "loss": Kind(
        "a loss function of torch.nn.functional was called outside any enclosing loss call (loss modules call it)",
        {
            "call": "number, from 0",
            "function": "binary_cross_entropy_with_logits ...",
            "by": "module that called it",
            "inside": "path of the enclosing watched module call, or None",
            "args": "tensor facts of input, target, weight, pos_weight (at = the parameter's name), and made_by: the autograd node that made it, looking through views and casts (SigmoidBackward0)",
            "reduction": "mean, sum, none",
            "options": "scalar options given (ignore_index, label_smoothing, ...)",
            "output": "tensor facts of the result",
            "input_from": "call number of the forward whose output (or a view of the same storage) is the input, or None",
            "scrambled": "whether the last two axes of a model's output were cut anew (reshape) where they should have been exchanged; None if unknown",
            "target_from": "[pass id, position, at] of the batch tensor with the same digest, or None",
            "probability_like": "input within [0, 1] (BCE with logits, cross entropy) or rows summing to 1",
            "target_grad": "whether the target requires grad",
            "grad_enabled": "bool",
            "classes": "weights and counts of at most 64 weighted classes (cross_entropy, nll_loss), or None",
            "positives": "share of target > 0.5, None unless the target has the input's shape and values in [0, 1]",
            "positive_input_mean": "mean input where target > 0.5, or None",
            "negative_input_mean": "mean input elsewhere, or None",
        },
        "Losses written by hand from elementary operations are not seen; their scalar is at the `backward` event.",
    ),
    "loss_grad": Kind(
        "the gradient that arrived at the input of a loss call",
        {
            "call": "number of the loss call",
            "finite": "bool",
            "zero": "bool",
            "norm": "float",
            "positive_mean": "mean where target > 0.5, or None",
            "negative_mean": "mean elsewhere, or None",
            "rows_zero": "share of rows with an all-zero gradient",
            "output_grad": "gradient at the loss's own output, summed over a table: its coefficient in the root, the gradient scale included",
            "output_grad_largest": "the largest size of an element of that gradient",
            "elements": "of a table of losses (reduction none), the gradients at its elements: low, high, positive and negative ([low, high] by label, zeros left out, or None), explained (what all losses, each times its gradient, sum up to); None otherwise",
        },
    ),
    # ------------------------------------------------------------------ backward
    "backward": Kind(
        "torch.autograd.backward (and so Tensor.backward) or torch.autograd.grad returned",
        {
            "call": "number, from 0",
            "function": "backward or grad",
            "root": "tensor facts of the first root",
            "roots": "how many",
            "by": "module that called it",
            "forwards": "numbers of the forward calls whose outputs were reached",
            "losses": "numbers of the loss calls whose inputs were reached",
            "retain_graph": "bool",
            "create_graph": "bool",
            "scale": "scale of the enabled gradient scaler that the root was multiplied with, or None",
            "grads_before": "{none, zero, nonzero}: counts over trainable known parameters at entry",
            "nonzero_before": "ids of parameters whose gradient was non-zero at entry (at most 64)",
            "touched": "ids of parameters that accumulated a gradient",
            "raw_nonfinite": "ids of parameters whose gradient was not finite when it arrived, before any clipping (hooks of the parameter itself included)",
            "raw_zero": "ids of touched parameters whose gradient is all zeros right after",
            "raw_norms": "id -> norm right after, for touched parameters (None if already freed by a fused optimizer)",
            "unregistered_leaves": "leaves reached in the graph that are in no known module and in no optimizer: shape, dtype, n. None if the graph was not walked (first two backwards per root only)",
            "unreached": "ids of trainable parameters of the roots whose forwards were reached that the graph does not reach; None if not walked",
            "tables": "shapes (B, 1) or (B,) of tensors from which a subtraction of something without gradient made (B, B); None if not walked",
            "summed": "where the root is a whole table summed up, scaled at most: shape of the table, factor (the gradient at the sum); None otherwise or if not walked",
            "seconds": "duration",
            "raised": "exception class or None",
            "in_step": "True inside optimizer.step(closure)",
        },
        "Custom engines that call Variable._execution_engine themselves are not seen.",
    ),
    # ------------------------------------------------------------------ optimization
    "optimizer": Kind(
        "an optimizer was made, or got another group (recorded again, same id)",
        {
            "id": "o1",
            "class": "qualified class",
            "defaults": "scalar defaults",
            "groups": "list of {options: scalars, parameters: [ids]}",
            "duplicates": "ids listed more than once",
            "overlapping": "ids of different parameters of equal size that begin at one address",
            "foreign": "ids of parameters that belong to no root module known so far (Trace.foreign() decides again at the end)",
            "frozen": "ids with requires_grad False",
            "non_leaf": "ids of tensors that are no leaves",
            "models_before": "root modules known at that moment",
        },
    ),
    "step": Kind(
        "an optimizer took a step",
        {
            "optimizer": "o1",
            "count": "its steps so far, this one included",
            "groups": "scalar options per group at the step: lr, weight_decay, momentum, maximize ...",
            "parameters": "list per parameter: id, name, group, grad (none, zero, finite, nonfinite), grad_norm (as the step used it), weight_norm (before), update_norm, "
            "changed (share of elements that changed), moved (bytes differ), descent (inner product of gradient and update), dtype, device, elements, sampled (True when norms "
            "other than grad_norm come from a regular subset of at most 65536 elements), finite (weights after)",
            "closure": "whether a closure was given",
            "forwards": "forward calls since this optimizer's last step whose outputs a backward reached",
            "backwards": "backward calls since this optimizer's last step",
            "losses": "loss calls with grad since this optimizer's last step",
            "in_backward": "True for optimizers fused into backward",
            "seconds": "duration",
            "digest": "digest of the digests of all its parameters afterwards",
        },
        "Hand-written updates (p.data.add_) leave no step; `weights` events show them.",
    ),
    "zero_grad": Kind(
        "gradients were cleared",
        {
            "what": "optimizer or module id",
            "set_to_none": "bool",
            "had": "{none, zero, nonzero}: counts before",
            "in_step": "bool",
        },
        "p.grad = None by hand is not seen; `backward.grads_before` shows its effect.",
    ),
    "clip": Kind(
        "gradients were clipped by torch.nn.utils",
        {
            "function": "clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_",
            "limit": "max_norm or clip_value",
            "norm_type": "float",
            "norm": "total norm returned, or None",
            "parameters": "ids",
            "given": "number of tensors given",
            "with_grad": "number of those with a gradient",
            "by": "calling module",
        },
    ),
    "scaler": Kind(
        "a gradient scaler was made or used",
        {
            "id": "g1",
            "action": "init, scale, unscale, step, update",
            "enabled": "bool",
            "scale": "scale before the action",
            "scale_after": "scale after it",
            "skipped": "for step: whether optimizer.step was left out",
            "optimizer": "o1 for unscale and step",
        },
    ),
    "autocast": Kind(
        "an autocast region was entered for the first time with these settings",
        {"device": "cpu, cuda", "dtype": "bfloat16 ...", "enabled": "bool"},
    ),
    "scheduler": Kind(
        "a learning-rate scheduler was made or stepped",
        {
            "id": "s1",
            "class": "class name",
            "action": "init or step",
            "optimizer": "o1",
            "count": "explicit steps so far (the one inside the constructor excluded)",
            "rates_before": "learning rate per group",
            "rates": "learning rate per group afterwards",
            "last_epoch": "its counter afterwards",
            "options": "scalar attributes at init: T_max, step_size, total_steps, gamma, ...",
            "argument": "number given to step (epoch or metric), or None",
            "inner": "True for a scheduler stepped by another one (SequentialLR, ChainedScheduler)",
            "by": "calling module",
            "waits": "at init: whether the code steps it only where epochs or steps are compared",
        },
    ),
    # ------------------------------------------------------------------ state over time
    "weights": Kind(
        "digests of a root's state at a border",
        {
            "model": "m1",
            "when": "first_forward, step (after each optimizer step), eval_begin, eval_end, save, load, resume, end",
            "parameters": "id -> digest",
            "buffers": "id -> digest",
            "moved": "ids of parameters whose digest differs from the last `weights` event of this root",
            "moved_buffers": "ids of buffers likewise",
            "devices": "device -> number of parameters",
            "dtypes": "dtype -> number of parameters",
            "nonfinite": "ids of floating parameters or buffers that are not all finite",
        },
    ),
    "copy": Kind(
        "a copy of a root's parameters (EMA, SWA, teacher, shadow dict or list), at step borders",
        {
            "id": "c1",
            "of": "m1",
            "form": "module, AveragedModel, dict, list",
            "parameters": "name -> digest",
            "equal": "number of its tensors bitwise equal to the model's now",
            "decay": "share d of the old copy in copy' = d * copy + (1 - d) * model, fitted over this step on one large tensor; None if it did not move or does not fit",
            "in_optimizer": "whether any optimizer holds its parameters",
            "updates": "calls of AveragedModel.update_parameters so far, or None",
        },
        "Copies made before the first forward call as modules are seen; dicts and lists are searched at the borders of steps 1 to 3 and found by their names or shapes.",
    ),
    # ------------------------------------------------------------------ data
    "dataset": Kind(
        "a dataset handed to a loader",
        {
            "id": "d1",
            "class": "qualified class",
            "length": "int or None",
            "base": "id of the dataset below Subset wrappers",
            "subset": "the Subset's indices into base if at most 20000, else None",
            "iterable": "bool",
            "files": "path of the file of each sample, where the data set holds a list of as many, up to 4000; else None",
        },
    ),
    "loader": Kind(
        "a DataLoader was made",
        {
            "id": "l1",
            "dataset": "d1",
            "batch_size": "int or None",
            "batches": "len(loader) or None",
            "sampler": "class name of the sampler (or of the batch sampler if that is custom)",
            "sampler_kind": "sequential, random, weighted, distributed, subset, custom, iterable",
            "replacement": "bool or None",
            "weights": "for weighted samplers: {n, min, max, distinct: up to 16 values}",
            "num_samples": "len(sampler) or None",
            "shuffle": "argument, None if not given",
            "drop_last": "bool",
            "workers": "num_workers",
            "generator": "whether a generator was given",
            "worker_init": "whether a worker_init_fn was given",
            "persistent_workers": "bool",
            "distributed": "{rank, replicas, seed} of a DistributedSampler, or None",
        },
        "Other loader classes (DALI, FFCV, WebLoader, hand-written generators) are seen only through the forward calls' inputs.",
    ),
    "epoch": Kind(
        "a pass over a loader began or ended",
        {
            "id": "i1",
            "loader": "l1",
            "action": "begin, end (exhausted), dropped (abandoned), cut (ended from outside, cut plan only)",
            "number": "passes begun on this loader, this one included",
            "batches": "batches delivered so far",
            "sampler_epoch": "the sampler's `epoch` attribute or None",
        },
    ),
    "batch": Kind(
        "a loader delivered a batch",
        {
            "loader": "l1",
            "epoch": "i1",
            "position": "in this pass, from 0",
            "indices": "dataset indices of its samples, or None for iterable datasets",
            "base_indices": "indices in the dataset below Subset wrappers, or None",
            "size": "number of samples",
            "told": "list per pair of a label of few values and a signal: label, signal (places), columns (axis:column -> bits of chance, of those that are a function of the label), of (columns in all). None after 16 batches of a pass",
            "tokens": "for the first batches of a pass with token sequences: {targets: at -> {shift: digests of it moved ahead}, "
            "shifts: list of {of, to, shift}, padding: {places, values: labels there, elements}, "
            "rows: digest of each long sequence without what attention_mask calls padding}, else None",
            "tensors": "tensor facts of its parts, and bits (of a mask: a table of 0 and 1, hexadecimal), empty and empty_last "
            "(of three dimensions: the places along axes 1 and 2 where all is zero, likewise; None or missing if there is none)",
            "others": "other leaves: at -> value for short strings and numbers (lists of at most 256 of them)",
        },
        "Facts are taken of what the loader hands out: collated, before the trainer moves or changes it.",
    ),
    "relabel": Kind(
        "relabeled and padded plans only: a label tensor of a batch was changed; its `batch` event shows it unchanged",
        {
            "epoch": "i1",
            "position": "of the batch in its pass",
            "at": "place of the tensor",
            "how": "moved (to other samples), replaced (by other values), under padding (of the signal), or that and `which the mask has elsewhere`",
            "sure": "whether it is known to be a label: a loss took it for its target",
            "rows": "samples whose label changed",
        },
    ),
    "reread": Kind(
        "probe plan only: samples of a dataset fetched twice at the end of the run",
        {
            "dataset": "d1",
            "index": "int",
            "digests": "per reading: place -> digest, and place/form -> form",
            "mutated": "arrays of the data set that the readings changed",
            "loader": "l1",
        },
    ),
    "turned": Kind(
        "probe plan only: a sample with a label per place was read with other random numbers, and came turned around or cut elsewhere",
        {
            "dataset": "d1",
            "loader": "l1",
            "index": "int",
            "signal": "place",
            "label": "place",
            "digest": "of the label as first read",
            "along": "readings in which the label went along with its signal",
            "apart": "readings in which it did not",
        },
    ),
    "worker": Kind(
        "a loader worker process began (in the worker's own record)",
        {
            "loader": "l1 or None",
            "worker": "number",
            "workers": "how many",
            "torch_seed": "torch.initial_seed()",
            "numpy": "digest of numpy's generator, or None",
            "python": "digest of random's",
            "start": "fork or spawn",
        },
        "Workers started by spawn or forkserver are seen when the interpreter loads the plugin's site hook.",
    ),
    "fetch": Kind(
        "a worker fetched one batch (in the worker's own record)",
        {
            "worker": "number",
            "indices": "list",
            "numpy_before": "digest of numpy's state before",
            "python_before": "digest",
            "torch_before": "digest",
        },
    ),
    # ------------------------------------------------------------------ checkpoints
    "checkpoint_write": Kind(
        "something holding tensors (or a file named like a checkpoint) was written",
        {
            "path": "relative path as given to the writer; for a buffer the file opened next for writing, or None",
            "final": "path after later renames, filled in by Trace",
            "writer": "torch.save, safetensors, pickle, joblib, numpy, other",
            "atomic": "filled in by Trace: True if written under another name and renamed, False if written in place, None if unknown",
            "overwrote": "whether path existed before",
            "bytes": "size afterwards, or None",
            "tensors": "key path -> {shape, dtype, digest}",
            "scalars": "key path -> number, bool, None or string of at most 200 characters",
            "types": "key path -> class of other leaves",
            "truncated": "True if there were more than 20000 leaves",
            "taken": "key path of the first tensor of a module's state dict that was not copied -> step at which the trainer took it",
            "seconds": "duration",
            "by": "calling module",
        },
        "Key paths join mapping keys and list places by '/': model/encoder.weight, optimizer/state/0/exp_avg.",
    ),
    "checkpoint_read": Kind(
        "something was read by torch.load, safetensors, pickle or joblib",
        {
            "path": "relative path or None",
            "reader": "torch.load ...",
            "tensors": "key path -> {shape, dtype, digest}",
            "scalars": "as above",
            "types": "as above",
            "truncated": "bool",
            "weights_only": "bool or None",
            "map_location": "str or None",
            "by": "calling module",
        },
    ),
    "rename": Kind("os.rename, os.replace or shutil.move", {"source": "path", "to": "path"}),
    "fsync": Kind("os.fsync of a file below the workdir", {"path": "path or None"}),
    "snapshot": Kind(
        "everything a resumed run would need, as it stood at this moment",
        {
            "when": "save (right before a checkpoint_write), resume (before the first forward that trains), limit (the step limit was reached), end",
            "models": "label -> {name: digest}, parameters and persistent buffers",
            "optimizers": "list of {class, lr: [..], state: {name: {slot: digest or number}}} in order of creation",
            "schedulers": "list of {class, state: scalars}",
            "scalers": "list of {scale, growth_tracker, enabled}",
            "copies": "list of {form, parameters: {name: digest}}",
            "rng": "{torch, numpy, python, cuda}",
            "loaders": "list of {loader, pass number, batches delivered in it}",
            "steps": "optimizer steps attempted",
        },
    ),
    "initialized": Kind(
        "a function of torch.nn.init wrote into a known parameter after the first step",
        {"function": "kaiming_uniform_ ...", "parameter": "id", "by": "calling module"},
        "Functions imported by name before watching began are not seen.",
    ),
    "state_dict": Kind(
        "state_dict() of a module, optimizer, scheduler, scaler or other object was called by the trainer",
        {"what": "class", "id": "identity or None", "keys": "number of keys", "by": "calling module"},
        "Objects whose class is defined by the trainer and inherits none of torch's are not seen.",
    ),
    "load_state_dict": Kind(
        "load_state_dict() of a module, optimizer, scheduler, scaler was called",
        {
            "what": "class",
            "id": "identity or None",
            "strict": "bool or None",
            "missing": "keys (at most 64)",
            "unexpected": "keys (at most 64)",
            "keys": "number of keys given",
            "loaded": "number of module tensors that now equal what was given; None for others",
            "own": "step at which the given state dict was taken, if its tensors are the module's own memory, else None",
            "raised": "exception class or None",
            "by": "calling module",
        },
    ),
    # ------------------------------------------------------------------ memory, metrics, distribution
    "memory": Kind(
        "memory at a step border",
        {
            "rss_mb": "resident set of the process",
            "cuda_allocated_mb": "or None",
            "cuda_reserved_mb": "or None",
            "cuda_peak_mb": "peak since the start, or None",
            "hooks": "forward and backward hooks on the modules of all known roots",
            "graphs": "tensors alive that hold an autograd graph: outputs of watched forwards, losses and backward roots",
            "histories": "graphs of earlier backwards of which something still holds the end",
            "tensors": "live tensors found by the garbage collector, or None where no census was taken",
            "tensors_mb": "their bytes, storages counted once, or None",
            "graph_tensors": "of those, tensors with a grad_fn, or None",
            "graph_nodes": "nodes of the graphs that these hold (at most 50000), or None",
        },
        "A census needs a walk over all Python objects; it is left out at steps where it would cost too much, never at steps 2, 4 and 6.",
    ),
    "metric": Kind(
        "a known logger was given numbers",
        {
            "logger": "class",
            "values": "name -> number",
            "at": "the step or epoch given, or None",
            "by": "calling module",
        },
        "TensorBoard SummaryWriter, wandb.log, Lightning loggers and self.log, Accelerate trackers. Others appear as `metrics_file`.",
    ),
    "choice": Kind(
        "argmax or softmax was called: the first two calls per rank of the tensor, axis and caller",
        {
            "function": "argmax, softmax",
            "shape": "of the tensor",
            "axis": "from 0",
            "digest": "of the tensor",
            "ends": "digests of its first and its last row; None for one dimension",
            "grad_enabled": "bool",
            "by": "calling module",
        },
        "Other ways to choose (max, topk, the method of an array) are not seen.",
    ),
    "declared": Kind(
        "a framework's trainer began, with what it was told",
        {
            "framework": "lightning, fabric, transformers",
            "choices": "list of {what, monitor, mode}: what keeps, stops or slows down by a number, and which way is better",
            "limits": "overfit_batches, limit_train_batches, limit_val_batches where the framework has them",
            "schedules": "list of {class, interval: step or epoch, planned: total_steps, T_max or total_iters}",
            "steps": "optimizer steps planned, or None",
            "epochs": "epochs planned, or None",
            "precision": "Fabric's: 32-true, bf16-mixed, ...; None for the others",
        },
    ),
    "evaluated": Kind(
        "an evaluation of Transformers' Trainer ended",
        {
            "metrics_given": "whether it was given a function of metrics and not told to leave it out",
            "metrics_called": "whether predictions and labels were gathered for it",
        },
    ),
    "distributed": Kind(
        "a process group was made, a model wrapped, or a collective used for the first time",
        {
            "action": "init, wrap, collective, destroy",
            "backend": "gloo ...",
            "rank": "int",
            "world_size": "int",
            "wrapper": "class for wrap",
            "model": "id of the wrapped root",
            "operation": "all_reduce ... for collective",
        },
    ),
    "process_started": Kind(
        "the target started another process",
        {"child": "pid or None", "how": "fork, spawn, subprocess", "watched": "bool"},
    ),
    # ------------------------------------------------------------------ phases and probes
    "phase": Kind(
        "the running phase changed",
        {
            "phase": "train, eval",
            "model": "m1",
            "why": "mode (train()/eval() called), grad (no_grad around a forward), backward",
        },
        "Inferred from forward calls, root by root: eval begins with the first forward without gradients, train with the next forward with gradients.",
    ),
    "mode": Kind(
        "module.train() or module.eval() changed the flag of a root or of modules below it",
        {
            "model": "id of the root or None",
            "path": "path of the module it was called on",
            "training": "new flag",
            "by": "calling module",
        },
    ),
    "probe": Kind(
        "invasive plans only, after the run proper: the model was run once more from outside",
        {
            "name": "fixed_batch, batch_independence, repeat_eval, look_ahead, duplicate_batch, label_sensitivity, input_sensitivity",
            "model": "label of the root",
            "at": "limit, resume, end; first (of the relabeled run)",
            "result": "numbers and digests of the probe, documented in the probe's function",
            "raised": "exception class and text, or None",
        },
    ),
}
