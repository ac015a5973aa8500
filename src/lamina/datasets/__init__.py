"""Data sets that come with the package."""

from . import digits

__all__ = ["digits"]
