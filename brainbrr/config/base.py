"""What every section of a configuration shares."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of keys: unknown keys and values of another type are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)
