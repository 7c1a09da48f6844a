"""Methods: what is trained, sent and merged. One file per row of the table of methods.

Read `lora.py` first for what most baselines do, `sparse_orthogonal.py` for the method this is about.
"""

from emulator.methods.alternating import Alternating
from emulator.methods.experts_once import ExpertsOnce
from emulator.methods.fedsa import Fedsa
from emulator.methods.ffa import Ffa
from emulator.methods.full import Full
from emulator.methods.full_oracle import FullOracle
from emulator.methods.local import LocalOnly
from emulator.methods.lora import Lora
from emulator.methods.lora_by_task import LoraByTask
from emulator.methods.lori import Lori
from emulator.methods.sparse_orthogonal import SparseOrthogonal
from emulator.methods.stacking import Stacking

__all__ = [
    "Alternating",
    "ExpertsOnce",
    "Fedsa",
    "Ffa",
    "Full",
    "FullOracle",
    "LocalOnly",
    "Lora",
    "LoraByTask",
    "Lori",
    "SparseOrthogonal",
    "Stacking",
]
