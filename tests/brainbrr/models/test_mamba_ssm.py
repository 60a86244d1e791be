"""Our layer beside mamba-ssm itself: runs in ``tox -e mamba-ssm`` only, which installs it without CUDA.

Two comparisons: with mamba-ssm's pure-PyTorch references, and with its Triton kernels run by Triton's interpreter
(``TRITON_INTERPRET=1``). The fused CUDA entry point that our ``kernel: cuda`` calls is run the same way, with the one
function it takes from causal-conv1d replaced by PyTorch's convolution.
"""

import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from brainbrr.models import Mamba2
from brainbrr.models.kernels import cuda_scan
from brainbrr.models.mamba import torch_scan

GOLDEN = Path(__file__).with_name("golden")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SHAPES = {
    "plain": {"d_state": 16, "d_conv": 4, "expand": 2, "headdim": 8, "ngroups": 1},
    "grouped": {"d_state": 8, "d_conv": 3, "expand": 2, "headdim": 16, "ngroups": 2},
}


@pytest.fixture(scope="module")
def kernels():
    """Import mamba-ssm's Triton kernels, and let them run without a GPU."""
    assert INTERPRETED, "run with TRITON_INTERPRET=1, set before Triton is imported: tox -e mamba-ssm does"
    patch = pytest.MonkeyPatch()
    patch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    patch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(multi_processor_count=1))
    spec = importlib.util.find_spec("mamba_ssm")
    bare = ModuleType("mamba_ssm")
    bare.__spec__ = spec
    bare.__path__ = list(spec.submodule_search_locations)
    patch.setitem(sys.modules, "mamba_ssm", bare)
    yield SimpleNamespace(
        mamba2=importlib.import_module("mamba_ssm.modules.mamba2"),
        combined=importlib.import_module("mamba_ssm.ops.triton.ssd_combined"),
    )
    patch.undo()


def backward(layer, length, width):
    torch.manual_seed(1)
    u = torch.randn(2, length, width, requires_grad=True)
    weights = torch.randn(2, length, width)
    out = layer(u)
    (out * weights).sum().backward()
    return out, {"u": u.grad} | {name: p.grad for name, p in layer.named_parameters()}


def test_the_golden_file_is_what_the_references_give(tmp_path):
    """In a process of its own: it puts the references in the kernels' places."""
    subprocess.run([sys.executable, str(GOLDEN / "make_mamba2.py"), str(tmp_path / "new.npz")], check=True)
    with np.load(GOLDEN / "mamba2.npz") as stored, np.load(tmp_path / "new.npz") as made:
        assert set(stored) == set(made)
        for name in stored:
            np.testing.assert_allclose(made[name], stored[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("length", [1, 37, 64])
def test_the_triton_kernels_agree(kernels, shape, length):
    torch.manual_seed(0)
    theirs = kernels.mamba2.Mamba2(32, **shape, chunk_size=32, use_mem_eff_path=False)
    torch.manual_seed(0)
    ours = Mamba2(32, **shape, kernel="torch")
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    out, gradients = backward(ours, length, 32)
    expected, expected_gradients = backward(theirs, length, 32)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    for name, gradient in expected_gradients.items():
        bound = 1e-4 * gradient.abs().max().item()
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=bound, msg=name)


def test_the_fused_entry_point_is_called_rightly(kernels, monkeypatch):
    def convolve(x, weight, bias, *rest):
        assert rest[-1] is True  # with SiLU
        taps = weight.shape[1]
        plain = functional.conv1d(x, weight[:, None], bias, padding=taps - 1, groups=len(weight))
        return functional.silu(plain[..., : x.shape[-1]])

    monkeypatch.setattr(kernels.combined, "causal_conv1d_fwd_function", convolve)
    torch.manual_seed(0)
    layer = Mamba2(32, headdim=8)
    with torch.no_grad():
        zxbcdt = layer.in_proj(torch.randn(2, 40, 32))
        ours, theirs = torch_scan(layer, zxbcdt), cuda_scan(layer, zxbcdt)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
