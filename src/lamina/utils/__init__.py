"""Small tools of Keras programs."""

from lamina.backend import clear_session
from lamina.callbacks.progress import (
    Progbar,
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from lamina.core.configurable import serialize as serialize_keras_object
from lamina.core.dtypes import standardize_dtype
from lamina.core.registry import (
    CustomObjectScope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)
from lamina.core.registry import CustomObjectScope as custom_object_scope
from lamina.core.symbolic import get_source_inputs, is_keras_tensor
from lamina.data.arrays import pack_x_y_sample_weight, unpack_x_y_sample_weight
from lamina.data.streams import PyDataset
from lamina.data.streams import PyDataset as Sequence
from lamina.random.seeds import set_global_seed as set_random_seed
from lamina.saving import deserialize_keras_object
from lamina.utils import bounding_boxes, legacy
from lamina.utils.arrays import normalize, pad_sequences, to_categorical
from lamina.utils.config import Config
from lamina.utils.downloads import get_file
from lamina.utils.feature_space import FeatureSpace
from lamina.utils.folders import audio_dataset_from_directory, image_dataset_from_directory, text_dataset_from_directory
from lamina.utils.images import array_to_img, img_to_array, load_img, save_img
from lamina.utils.model_pictures import model_to_dot, plot_model
from lamina.utils.splitting import split_dataset, timeseries_dataset_from_array

__all__ = [
    "Config", "CustomObjectScope", "FeatureSpace", "Progbar", "PyDataset", "Sequence", "array_to_img",
    "audio_dataset_from_directory", "bounding_boxes", "clear_session", "custom_object_scope",
    "deserialize_keras_object", "disable_interactive_logging", "enable_interactive_logging", "get_custom_objects",
    "get_file", "get_registered_name", "get_registered_object", "get_source_inputs", "image_dataset_from_directory",
    "img_to_array", "is_interactive_logging_enabled", "is_keras_tensor", "legacy", "load_img", "model_to_dot",
    "normalize", "pack_x_y_sample_weight", "pad_sequences", "plot_model", "register_keras_serializable", "save_img",
    "serialize_keras_object", "set_random_seed", "split_dataset", "standardize_dtype", "text_dataset_from_directory",
    "timeseries_dataset_from_array", "to_categorical", "unpack_x_y_sample_weight",
]  # fmt: skip
