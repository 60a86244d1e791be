"""Section ``model``: encoder, bidirectional Mamba-2 and head.

What mamba-ssm's CUDA kernels refuse is refused here, on every device, so that a configuration works everywhere or
nowhere.
"""

from typing import Any, Literal, Self

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from brainbrr.config.base import Section
from brainbrr.config.encoders import encoder_class
from brainbrr.errors import ConfigError


class EncoderConfig(Section):
    """Base of every encoder's own keys."""

    name: str
    """Registered name of the encoder."""

    @property
    def out_channels(self) -> int:
        """D, the width of the features; said here so that a misfit shows before a model is built."""
        raise NotImplementedError(f"{type(self).__name__} must say its out_channels")


class Mamba(Section):
    """The stack of bidirectional Mamba-2 layers. Its width is the encoder's ``out_channels``."""

    layers: int = Field(default=6, ge=1)
    """Bidirectional layers."""
    d_state: int = Field(default=16, ge=8, le=256, multiple_of=8)
    """State size per channel."""
    d_conv: int = Field(default=4, ge=2, le=4)
    """Kernel of the causal depthwise convolution."""
    expand: int = Field(default=2, ge=1)
    """Inner width as a multiple of the width."""
    headdim: int = Field(default=64, ge=8, le=256)
    """Channels per head: a power of two."""
    ngroups: int = Field(default=1, ge=1)
    """Groups of heads that share B and C."""
    chunk_size: int = Field(default=32, ge=16, le=256)
    """Steps per chunk of the PyTorch scan: a power of two. Changes rounding and speed, nothing else."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on each layer's output, before the residual."""
    kernel: Literal["auto", "cuda", "torch"] = "auto"
    """``cuda`` (mamba-ssm), ``torch``, or ``auto``: cuda where it can run, else torch. Same weights, same result."""

    @model_validator(mode="after")
    def _powers_of_two(self) -> Self:
        for key in ("headdim", "chunk_size"):
            value = getattr(self, key)
            if value & (value - 1):
                raise ValueError(f"{key} must be a power of two, and is {value}")
        return self

    def check_width(self, d_model: int) -> None:
        """Raise unless the CUDA kernels take layers of width ``d_model``.

        Raises:
            ConfigError: the inner width is no multiple of ``headdim``, the heads no multiple of ``ngroups``, or a
                stride that mamba-ssm hands to causal-conv1d no multiple of 8.
        """
        d_inner = self.expand * d_model
        where = f"model.mamba at width {d_model}"
        if d_inner % self.headdim:
            raise ConfigError(
                "the inner width is no multiple of headdim",
                where=where,
                got=f"expand * width = {d_inner}, headdim {self.headdim}",
                hint="Choose another headdim or another width of the encoder",
            )
        heads = d_inner // self.headdim
        if heads % self.ngroups:
            raise ConfigError(
                "the number of heads is no multiple of ngroups",
                where=where,
                got=f"{heads} heads, ngroups {self.ngroups}",
            )
        conv = d_inner + 2 * self.ngroups * self.d_state
        for what, value in (("conv1d channels", conv), ("in_proj rows", d_inner + conv + heads)):
            if value % 8:
                raise ConfigError(
                    f"the CUDA kernels want the number of {what} divisible by 8",
                    where=where,
                    got=value,
                    expected="a multiple of 8",
                    hint="A smaller headdim gives more heads: take one for which expand * width / headdim is a "
                    "multiple of 8",
                )


class Head(Section):
    """From features at the encoder's rate to one logit per sample."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the features before the last layer."""


class Model(Section):
    """The detector."""

    encoder: SerializeAsAny[EncoderConfig] = Field(default={"name": "tcn"}, validate_default=True)
    """``name`` of a registered encoder, and that encoder's keys."""
    mamba: Mamba = Mamba()
    """The stack of bidirectional Mamba-2 layers."""
    head: Head = Head()
    """The last layer."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.mamba.check_width(self.encoder.out_channels)
        return self

    @field_validator("encoder", mode="wrap")
    @classmethod
    def _encoder_keys(cls, value: Any, _: Any) -> EncoderConfig:
        if isinstance(value, EncoderConfig):
            return value
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            message = "a mapping with the name of an encoder and its keys"
            raise ValueError(message)  # noqa: TRY004  # pydantic collects ValueError
        try:
            section = encoder_class(value["name"]).Config
        except ConfigError as error:
            raise ValueError(str(error)) from None
        try:
            parsed = section.model_validate(value)
        except ValidationError as invalid:
            raise _with_known_keys(invalid, section) from None
        assert isinstance(parsed, EncoderConfig)
        return parsed


def _with_known_keys(invalid: ValidationError, section: type[EncoderConfig]) -> ValidationError:
    """Return ``invalid`` with the keys that the encoder knows beside each that it does not."""
    known = sorted(section.model_fields)
    details: list[InitErrorDetails] = []
    for detail in invalid.errors():
        kind = detail["type"]
        context = {"known": known} if kind == "extra_forbidden" else {}
        error = PydanticCustomError(kind, "{message}", {"message": detail["msg"], **context})
        details.append({"type": error, "loc": detail["loc"], "input": detail["input"]})
    return ValidationError.from_exception_data(section.__name__, details)
