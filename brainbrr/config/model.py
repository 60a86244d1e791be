"""Section ``model``: encoder, bidirectional Mamba-2 and head."""

from typing import Any

from pydantic import Field

from brainbrr.config.base import Section


class Model(Section):
    """The detector."""

    encoder: dict[str, Any] = Field(default={"name": "tcn"})
