"""The base class of the sections of a scenario file."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen part of a scenario; unknown keys, infinity and NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
