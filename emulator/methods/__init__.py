"""Methods: what is trained, sent and merged. One file per row of the table of methods."""

from emulator.methods.lora import Lora
from emulator.methods.sparse_orthogonal import SparseOrthogonal

__all__ = ["Lora", "SparseOrthogonal"]
