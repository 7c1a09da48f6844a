"""Routing: which expert answers, and the experts as one stacked adapter. One file per router."""

from emulator.routing.arrow import Arrow
from emulator.routing.bag_of_words import BagOfWords
from emulator.routing.cosine import Cosine
from emulator.routing.discriminant import RidgeLda
from emulator.routing.open_gates import Uniform
from emulator.routing.oracle import Oracle

__all__ = ["Arrow", "BagOfWords", "Cosine", "Oracle", "RidgeLda", "Uniform"]
