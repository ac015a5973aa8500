"""Layers that turn what the world gives, text and categories and raw numbers, into what models compute with."""

from lamina.layers.preprocessing.continuous import Discretization, Normalization
from lamina.layers.preprocessing.encoding import CategoryEncoding
from lamina.layers.preprocessing.hashing import HashedCrossing, Hashing
from lamina.layers.preprocessing.lookup import IntegerLookup, StringLookup
from lamina.layers.preprocessing.text import TextVectorization

__all__ = [
    "CategoryEncoding",
    "Discretization",
    "HashedCrossing",
    "Hashing",
    "IntegerLookup",
    "Normalization",
    "StringLookup",
    "TextVectorization",
]
