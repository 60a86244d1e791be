"""Write ``mamba2.npz``: what mamba-ssm's own layer computes from its own weights, for our layer to repeat.

Needs mamba-ssm 2.3.1 built without CUDA, triton, einops and huggingface_hub beside torch (see docs/models.md). The
layer is ``mamba_ssm.Mamba2`` itself, run through its own forward; only the two kernels in it that want a GPU are
replaced by mamba-ssm's pure-PyTorch references of them: the scan by ``ssd_minimal_discrete`` (its value checked
against ``ssd_chunk_scan_combined_ref``, whose gradients are NaN at the default initialization) and the gated norm by
``rms_norm_ref``.
"""

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch.nn import functional

GOLDEN = Path(__file__).with_name("mamba2.npz")
SHAPES = {
    "plain": {"d_model": 16, "d_state": 8, "d_conv": 4, "expand": 2, "headdim": 8, "ngroups": 1},
    "grouped": {"d_model": 16, "d_state": 16, "d_conv": 3, "expand": 2, "headdim": 8, "ngroups": 2},
}
LENGTH = 37


@functools.cache
def import_mamba_ssm() -> ModuleType:
    """Import ``mamba_ssm.modules.mamba2`` with GPU kernels replaced by mamba-ssm's references."""
    spec = importlib.util.find_spec("mamba_ssm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    # A bare package in its place: the real one imports its CUDA extension and transformers.
    bare = ModuleType("mamba_ssm")
    bare.__spec__ = spec
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["mamba_ssm"] = bare
    from mamba_ssm.modules import mamba2
    from mamba_ssm.modules.ssd_minimal import ssd_minimal_discrete
    from mamba_ssm.ops.triton.layernorm_gated import rms_norm_ref
    from mamba_ssm.ops.triton.ssd_combined import ssd_chunk_scan_combined_ref

    def scan(x, dt, a, b, c, chunk_size, D, dt_bias, dt_softplus, **rest):
        assert dt_softplus
        assert rest.pop("z") is None
        heads, length = x.shape[2], x.shape[1]
        step = functional.softplus(dt + dt_bias)
        pad = (0, 0, 0, 0, 0, -length % chunk_size)
        b_h, c_h = (t.repeat_interleave(heads // b.shape[2], dim=2) for t in (b, c))
        args = [functional.pad(t, pad) for t in (x * step[..., None], (step * a)[..., None], b_h, c_h)]
        y, _ = ssd_minimal_discrete(args[0], args[1][..., 0], args[2], args[3], chunk_size)
        y = y[:, :length] + D[:, None] * x
        with torch.no_grad():
            # That reference takes whole chunks.
            whole = length // chunk_size * chunk_size
            cut = [t[:, :whole] for t in (x, step, b, c)]
            check = ssd_chunk_scan_combined_ref(cut[0], cut[1], a, cut[2], cut[3], chunk_size, D=D)
            torch.testing.assert_close(check, y[:, :whole], rtol=1e-4, atol=1e-5)
        return y

    def norm(self, y, z):
        kind = {"eps": self.eps, "group_size": self.group_size, "norm_before_gate": self.norm_before_gate}
        return rms_norm_ref(y, self.weight, None, z=z, upcast=False, **kind)

    mamba2.mamba_chunk_scan_combined = scan
    mamba2.RMSNormGated.forward = norm
    return mamba2


def make(shape: dict[str, int]) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """Return mamba-ssm's layer with its gradients, its input and its output, in float64 from float32 draws."""
    torch.manual_seed(0)
    layer = import_mamba_ssm().Mamba2(**shape, chunk_size=16, use_mem_eff_path=False)
    u = torch.randn(2, LENGTH, shape["d_model"])
    weights = torch.randn(2, LENGTH, shape["d_model"])
    layer, u = layer.double(), u.double().requires_grad_()
    out = layer(u)
    (out * weights.double()).sum().backward()
    return layer, u, out


def main(path: Path) -> None:
    """Write the golden file to ``path``."""
    arrays: dict[str, np.ndarray] = {}
    for name, shape in SHAPES.items():
        layer, u, out = make(shape)
        assert u.grad is not None
        arrays |= {f"{name}/state/{key}": value.float().numpy() for key, value in layer.state_dict().items()}
        arrays |= {f"{name}/grad/{key}": p.grad.numpy() for key, p in layer.named_parameters()}
        arrays |= {f"{name}/u": u.detach().numpy(), f"{name}/out": out.detach().numpy(), f"{name}/du": u.grad.numpy()}
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else GOLDEN)
