"""Which kernel runs: asked for, found, refused, said once."""

import logging
import sys

import pytest
import torch

from brainbrr.errors import ConfigError
from brainbrr.models import Mamba2, kernels

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _nothing_announced(monkeypatch):
    monkeypatch.setattr(kernels, "_announced", set())


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(kernels, "MISSING", ())


@pytest.fixture
def not_installed(monkeypatch):
    monkeypatch.setattr(kernels, "MISSING", ("mamba-ssm", "causal-conv1d"))


@pytest.mark.usefixtures("installed")
def test_auto_takes_cuda_where_it_can_run():
    assert kernels.resolve_kernel("auto", CUDA) == "cuda"
    assert kernels.resolve_kernel("auto", CPU) == "torch"
    assert kernels.resolve_kernel("cuda", CUDA) == "cuda"
    assert kernels.resolve_kernel("torch", CUDA) == "torch"


@pytest.mark.usefixtures("not_installed")
def test_auto_takes_torch_without_the_packages_and_says_so_once(caplog):
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert kernels.resolve_kernel("auto", CUDA) == "torch"
    assert [record.getMessage() for record in caplog.records] == [
        "Mamba-2 kernel: torch (auto; device cuda; not installed: mamba-ssm, causal-conv1d)"
    ]


@pytest.mark.usefixtures("not_installed")
def test_cuda_without_the_packages_says_what_to_install():
    with pytest.raises(ConfigError, match=r"cuda without mamba-ssm and causal-conv1d.*pip install 'brainbrr\[cuda\]'"):
        kernels.resolve_kernel("cuda", CUDA)


@pytest.mark.usefixtures("installed")
def test_cuda_on_another_device_is_refused():
    layer = Mamba2(16, headdim=8, kernel="cuda")
    with pytest.raises(ConfigError, match=r"model.mamba.kernel: the CUDA kernel needs a CUDA device \(got cuda on cpu"):
        layer(torch.zeros(1, 4, 16))


def test_the_packages_are_looked_for_without_importing_them():
    assert set(kernels.MISSING) <= {"mamba-ssm", "causal-conv1d"}
    assert "mamba_ssm" not in sys.modules
