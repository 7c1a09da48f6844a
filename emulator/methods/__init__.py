"""Methods: what is trained, sent and merged. One file per row of the table of methods."""

from typing import Annotated

from pydantic import Field

from emulator.methods.lora import Lora
from emulator.methods.sparse_orthogonal import SparseOrthogonal

MethodChoice = Annotated[SparseOrthogonal | Lora, Field(discriminator="kind")]
