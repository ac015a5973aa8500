"""Names of older programs: `preprocessing.image` and `preprocessing.sequence`."""

from lamina.preprocessing import image, sequence
from lamina.utils.folders import image_dataset_from_directory, text_dataset_from_directory
from lamina.utils.splitting import timeseries_dataset_from_array

__all__ = [
    "image",
    "image_dataset_from_directory",
    "sequence",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
]
