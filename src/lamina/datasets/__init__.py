"""Data sets: `digits` comes with the package, the others are downloaded when they are first asked for."""

from . import boston_housing, california_housing, cifar10, cifar100, digits, fashion_mnist, imdb, mnist, reuters

__all__ = [
    "boston_housing", "california_housing", "cifar10", "cifar100", "digits", "fashion_mnist", "imdb", "mnist",
    "reuters",
]  # fmt: skip
