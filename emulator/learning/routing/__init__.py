"""Routing: the choice of the expert that answers, and all experts in one model. One file per router."""

from emulator.learning.routing.arrow import Arrow
from emulator.learning.routing.bag_of_words import BagOfWords
from emulator.learning.routing.cosine import Cosine
from emulator.learning.routing.oracle import Oracle
from emulator.learning.routing.ridge_lda import RidgeLda
from emulator.learning.routing.uniform import Uniform

__all__ = ["Arrow", "BagOfWords", "Cosine", "Oracle", "RidgeLda", "Uniform"]
