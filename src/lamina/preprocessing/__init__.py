"""Names of older programs: `preprocessing.image` and `preprocessing.sequence`."""

from lamina.preprocessing import image, sequence

__all__ = ["image", "sequence"]
