"""All layers."""
# ruff: noqa: F403

from lamina.core import configurable as _configurable
from lamina.layer import InputSpec, Layer, Wrapper
from lamina.layers import convolution, merging, normalization, pooling, regularization, reshaping
from lamina.layers.activation import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from lamina.layers.attention import AdditiveAttention, Attention, GroupQueryAttention, MultiHeadAttention
from lamina.layers.augmentation import colors, warping
from lamina.layers.augmentation.colors import *
from lamina.layers.augmentation.composing import AugMix, Pipeline, RandAugment, RandomColorJitter
from lamina.layers.augmentation.histograms import (
    AutoContrast,
    ContrastLimitedAdaptiveHistogramEqualization,
    Equalization,
)
from lamina.layers.augmentation.mixing import CutMix, MixUp, RandomErasing
from lamina.layers.augmentation.warping import *
from lamina.layers.bridges import FlaxLayer, JaxLayer
from lamina.layers.conv_lstm import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from lamina.layers.convolution import *
from lamina.layers.core import Embedding, Identity, Input, InputLayer, Lambda, Masking, ReversibleEmbedding
from lamina.layers.merging import *
from lamina.layers.normalization import *
from lamina.layers.pooling import *
from lamina.layers.preprocessing.continuous import Discretization, Normalization
from lamina.layers.preprocessing.encoding import CategoryEncoding
from lamina.layers.preprocessing.hashing import HashedCrossing, Hashing
from lamina.layers.preprocessing.images import CenterCrop, MaxNumBoundingBoxes, Rescaling, Resizing
from lamina.layers.preprocessing.lookup import IntegerLookup, StringLookup
from lamina.layers.preprocessing.spectrograms import MelSpectrogram, STFTSpectrogram
from lamina.layers.preprocessing.text import TextVectorization
from lamina.layers.projection import Dense, EinsumDense
from lamina.layers.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, SimpleRNN, SimpleRNNCell, StackedRNNCells
from lamina.layers.regularization import *
from lamina.layers.reshaping import *
from lamina.layers.wrapping import Bidirectional, TimeDistributed

__all__ = [
    "ELU", "GRU", "LSTM", "RNN", "Activation", "AdditiveAttention", "Attention", "AugMix", "AutoContrast",
    "Bidirectional", "CategoryEncoding", "CenterCrop", "ContrastLimitedAdaptiveHistogramEqualization", "ConvLSTM1D",
    "ConvLSTM2D", "ConvLSTM3D", "CutMix", "Dense", "Discretization", "EinsumDense", "Embedding", "Equalization",
    "FlaxLayer", "GRUCell", "GroupQueryAttention", "HashedCrossing", "Hashing", "Identity", "Input", "InputLayer",
    "InputSpec", "IntegerLookup", "JaxLayer", "LSTMCell", "Lambda", "Layer", "LeakyReLU", "Masking",
    "MaxNumBoundingBoxes", "MelSpectrogram", "MixUp", "MultiHeadAttention", "Normalization", "PReLU", "Pipeline",
    "RandAugment", "RandomColorJitter", "RandomErasing", "ReLU", "Rescaling", "Resizing", "ReversibleEmbedding",
    "STFTSpectrogram", "SimpleRNN", "SimpleRNNCell", "Softmax", "StackedRNNCells", "StringLookup", "TextVectorization",
    "TimeDistributed", "Wrapper", "deserialize", "serialize",
]  # fmt: skip
__all__ += colors.__all__
__all__ += warping.__all__
__all__ += convolution.__all__
__all__ += merging.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += regularization.__all__
__all__ += reshaping.__all__

_, serialize, deserialize = _configurable.namespace_functions("layers", "layer", Layer, functions=False)
