"""Random numbers: `SeedGenerator`, and samples of distributions."""
# ruff: noqa: F403

from lamina.random import samples
from lamina.random.samples import *
from lamina.random.seeds import SeedGenerator

__all__ = ["SeedGenerator"]
__all__ += samples.__all__
