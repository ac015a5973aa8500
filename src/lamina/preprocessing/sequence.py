"""Sequences of one length, as `lamina.preprocessing.sequence`."""

from lamina.utils.arrays import pad_sequences

__all__ = ["pad_sequences"]
