"""Which parameters decay: matrices and kernels do; norms, biases and Mamba's A_log, D and dt_bias do not."""

from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two optimizer groups that hold every trainable parameter once, in the model's order."""
    decaying: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (exempt if _is_exempt(parameter) else decaying).append(parameter)
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


def _is_exempt(parameter: nn.Parameter) -> bool:
    # A norm's scale, a bias, Mamba's A_log, D and dt_bias and the magnitudes of weight norm have one value per channel.
    # The mark is for other parameters, of other people's encoders; copy.deepcopy drops it.
    return parameter.numel() == max(parameter.shape[:1], default=1) or getattr(parameter, "_no_weight_decay", False)
