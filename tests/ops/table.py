"""One row an op: its name and example arguments. NumPy arrays among them are the tensors; all else is fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_random = np.random.default_rng(0)


class Row(NamedTuple):
    """A call of `ops.<name>`; `concrete` ones need values, so they cannot be traced."""

    name: str
    args: tuple
    kwargs: dict[str, Any]
    concrete: bool = False

    def __repr__(self) -> str:
        given = [_brief(a) for a in self.args] + [f"{k}={_brief(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(given)})"

    def call(self, ops: Any, convert: Callable[[np.ndarray], Any]) -> Any:
        """The result of the op in a namespace, with each array converted."""
        fn = ops
        for part in self.name.split("."):
            fn = getattr(fn, part)
        return fn(*mapped(convert, self.args), **mapped(convert, self.kwargs))


def mapped(convert: Callable[[np.ndarray], Any], value: Any) -> Any:
    """`convert` of each array in nested lists, tuples and dicts."""
    if isinstance(value, np.ndarray):
        return convert(value)
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(convert, v) for v in value)
    if isinstance(value, dict):
        return {k: mapped(convert, v) for k, v in value.items()}
    return value


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name}{list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(_brief(v) for v in value)}]"
    return getattr(value, "__name__", repr(value))


def _row(name: str, *args: Any, **kwargs: Any) -> Row:
    return Row(name, args, kwargs)


def _concrete(name: str, *args: Any, **kwargs: Any) -> Row:
    return Row(name, args, kwargs, concrete=True)


def _names(text: str) -> list[str]:
    return text.split()


def floats(*shape: int) -> np.ndarray:
    """Values between -0.9 and 0.9."""
    return _random.uniform(-0.9, 0.9, shape).astype("float32")


def positive(*shape: int) -> np.ndarray:
    """Values between 1.1 and 3."""
    return _random.uniform(1.1, 3, shape).astype("float32")


def integers(*shape: int, high: int = 5) -> np.ndarray:
    """Integers from 1 to below `high`."""
    return _random.integers(1, high, shape).astype("int32")


def booleans(*shape: int) -> np.ndarray:
    """Truth values."""
    return _random.integers(0, 2, shape).astype("bool")


def complexes(*shape: int) -> np.ndarray:
    """Complex numbers."""
    return (floats(*shape) + 1j * floats(*shape)).astype("complex64")


def definite(n: int) -> np.ndarray:
    """A symmetric positive definite matrix."""
    a = _random.normal(size=(n, n))
    return (a @ a.T + n * np.eye(n)).astype("float32")


UNARY = _names("""
absolute abs angle arcsin arcsinh arctan arctanh cbrt ceil conj conjugate copy cos cosh deg2rad exp exp2 expm1 fabs
floor imag isfinite isinf isnan isneginf isposinf isreal logical_not negative rad2deg real reciprocal round sign
signbit sin sinc sinh square tan tanh trunc nan_to_num ravel ones_like zeros_like empty_like fliplr flipud
celu elu gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid log_softmax relu
relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus
tanh_shrink erf erfc stop_gradient sum mean max min prod std var all any amax amin argmax argmin median ptp
cumsum cumprod nancumsum nancumprod nanargmax nanargmin nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar
argsort sort count_nonzero diff logsumexp transpose average norm normalize
""")

POSITIVE = _names("arccos arccosh erfinv i0 log log10 log1p log2 rsqrt sqrt")

BINARY = _names("""
add arctan2 divide divide_no_nan equal floor_divide fmax fmin fmod greater greater_equal heaviside hypot isclose
less less_equal logaddexp logaddexp2 logical_and logical_or logical_xor maximum minimum mod multiply nextafter
not_equal power subtract true_divide outer inner
""")

INTEGER = _names("""
bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift left_shift right_shift gcd lcm
""")

# Ops of which Keras on JAX has a form for sparse arrays; of others it has errors.
SPARSE = _names("""
abs absolute add arccos arccosh arcsin arcsinh arctan arctanh cast ceil concatenate conj conjugate convert_to_tensor
copy cos cosh digitize divide empty_like exp exp2 expand_dims expm1 floor full_like get_item imag isfinite isinf isnan
log log10 log1p log2 matmul maximum mean minimum multiply negative ones_like real rearrange reciprocal reshape round
sign signbit sin sinh sqrt square squeeze stop_gradient subtract sum take take_along_axis tan tanh transpose
true_divide zeros_like
""")


def thinned(array: np.ndarray) -> np.ndarray:
    """The array with 0 in two of three places."""
    return np.where(np.arange(array.size).reshape(array.shape) % 3 == 0, array, 0).astype(array.dtype)


_F, _P, _I, _B = floats(3, 4), positive(3, 4), integers(3, 4), booleans(3, 4)
_X = floats(2, 6, 5, 3)  # a batch of images
_V = floats(2, 5, 4, 6, 2)  # a batch of volumes
_S = floats(2, 9, 3)  # a batch of signals
_L = np.arange(24, dtype="float32").reshape(2, 4, 3) / 100  # a batch of logits

NUMPY = [
    _row("allclose", _F, _F),
    _row("append", _F, _P, axis=1),
    _row("append", _F, _I),
    _row("arange", 5),
    _row("arange", 1, 7, 2, dtype="float32"),
    _row("arange", 0.0, 1.0, 0.25),
    _row("argpartition", _F, 2),
    _row("argsort", _F, axis=0),
    _row("array", _F, dtype="float16"),
    _row("array_split", _F, 3, axis=1),
    _row("average", _F, axis=1, weights=_P),
    _row("bartlett", 7),
    _concrete("bincount", integers(9), minlength=3),
    _concrete("bincount", integers(2, 9), weights=positive(2, 9)),
    _row("bitwise_invert", _I),
    _row("bitwise_not", _I),
    _row("blackman", 7),
    _row("broadcast_to", _F, (2, 3, 4)),
    _row("clip", _F, -0.5, 0.5),
    _row("clip", _B, 0, 1),
    _row("concatenate", [_F, _P], axis=1),
    _row("concatenate", [_F, _I]),
    _row("corrcoef", _F),
    _row("correlate", floats(7), floats(3), mode="full"),
    _row("correlate", floats(7), floats(3)),
    _row("count_nonzero", _I, axis=1),
    _row("cross", floats(4, 3), floats(4, 3)),
    _row("cumsum", _F, axis=1),
    _row("cumsum", _I, axis=0, dtype="float32"),
    _row("cumprod", _F, axis=1),
    _row("diag", _F, k=1),
    _row("diag", floats(3)),
    _row("diagflat", _F, k=1),
    _row("diagonal", _X, offset=1, axis1=1, axis2=2),
    _row("diff", _F, n=2, axis=0),
    _row("digitize", _F, np.array([-0.5, 0.0, 0.5], "float32")),
    _row("dot", _F, floats(4, 2)),
    _row("dsplit", _X, 5),
    _row("dstack", [_F, _P]),
    _row("einsum", "ij,kj->ik", _F, _P),
    _row("einsum", "ij,kj->ik", _I.astype("int8"), _I.astype("int8")),
    _row("empty", (2, 3)),
    _row("expand_dims", _F, 1),
    _row("expand_dims", _F, (0, -1)),
    _row("eye", 3, 4, 1),
    _row("eye", 3, dtype="int32"),
    _row("flip", _F, axis=1),
    _row("flip", _F),
    _row("full", (2, 3), 7),
    _row("full", (2,), 2, dtype="int32"),
    _row("full_like", _F, 2),
    _row("full_like", _F, 2, dtype="int32"),
    _row("geomspace", 1.0, 8.0, 4),
    _row("get_item", _F, (slice(None), 1)),
    _row("hamming", 7),
    _row("hanning", 7),
    _row("histogram", floats(9), 5),
    _row("histogram", floats(9), 4, range=(-1, 1)),
    _row("hsplit", _F, 2),
    _row("hstack", [_F, _P]),
    _row("identity", 3),
    _row("isclose", _F, _F + 1e-7),
    _row("isin", _I, integers(3)),
    _row("kaiser", 7, 4.0),
    _row("kron", _F, floats(2, 2)),
    _row("ldexp", _F, _I),
    _row("linspace", 0.0, 1.0, 5),
    _row("linspace", 0, 10, num=5, endpoint=False, retstep=True, dtype="float32"),
    _row("linspace", _F, _P, num=3, axis=1),
    _row("logspace", 0.0, 2.0, 4),
    _row("matmul", floats(2, 3, 4), floats(4, 5)),
    _row("matmul", floats(2, 3, 4), floats(2, 4, 5)),
    _row("matmul", _I.astype("int8"), _I.T.astype("int8")),
    _row("max", _F, axis=1, initial=0.5),
    _row("min", _F, axis=(0, 1), initial=-0.5, keepdims=True),
    _row("mean", _X, axis=[1, 2]),
    _row("mean", _I, axis=0, keepdims=True),
    _row("median", _X, axis=(1, 2), keepdims=True),
    _row("meshgrid", floats(3), floats(4), indexing="ij"),
    _row("moveaxis", _X, 1, -1),
    _row("moveaxis", _X, [0, 1], [1, 2]),
    _row("nan_to_num", np.array([np.nan, np.inf, -np.inf, 1], "float32"), nan=2.0, posinf=3.0, neginf=4.0),
    _row("nanmax", np.array([[np.nan, 1], [2, 3]], "float32"), axis=0),
    _row("nanmean", np.array([[np.nan, 1], [2, 3]], "float32"), axis=0, keepdims=True),
    _row("nanpercentile", _F, 30.0, axis=1),
    _row("nanquantile", _F, 0.3, method="nearest"),
    _concrete("nonzero", _I),
    _row("ones", (2, 3)),
    _row("ones_like", _F, dtype="int32"),
    _row("pad", _F, ((1, 2), (0, 1))),
    _row("pad", _F, 1, mode="reflect"),
    _row("pad", _F, ((1, 0), (0, 0)), constant_values=3.0),
    _row("percentile", _F, 30.0, axis=1, keepdims=True),
    _row("prod", _I, axis=1, dtype="float32"),
    _row("quantile", _F, np.array([0.2, 0.6], "float32"), axis=0),
    _row("quantile", _I, 0.5),
    _row("repeat", _F, 2, axis=1),
    _row("repeat", _F, 3),
    _row("reshape", _F, (2, -1)),
    _row("roll", _F, 2, axis=1),
    _row("roll", _F, (1, 2), axis=(0, 1)),
    _row("rot90", _F),
    _row("rot90", _X, k=2, axes=(1, 2)),
    _row("round", _F * 100, decimals=1),
    _row("round", _I * 17, decimals=-1),
    _row("searchsorted", np.sort(floats(6)), floats(4), side="right"),
    _row("select", [_B, ~_B], [_F, _P], 7.0),
    _row("slogdet", definite(3)),
    _row("sort", _F, axis=0),
    _row("split", _F, 2, axis=1),
    _row("split", _F, (1, 3), axis=1),
    _row("squeeze", floats(1, 3, 1)),
    _row("squeeze", floats(1, 3, 1), axis=-1),
    _row("stack", [_F, _P], axis=-1),
    _row("std", _X, axis=(0, 1), keepdims=True),
    _row("sum", _B, axis=0),
    _row("swapaxes", _X, 1, -1),
    _row("take", _F, np.array([[0, 2], [1, -1]]), axis=1),
    _row("take", _F, np.array([0, 2])),
    _row("take_along_axis", _F, np.array([[0], [1], [-1]]), axis=1),
    _row("tensordot", floats(2, 3, 4), floats(3, 4, 5)),
    _row("tensordot", floats(2, 3, 4), floats(5, 4), axes=[[2], [1]]),
    _row("tile", _F, (2, 1, 2)),
    _row("trace", _X, offset=1, axis1=1, axis2=2),
    _row("transpose", _X, axes=(0, 3, 1, 2)),
    _row("trapezoid", _F, dx=0.5),
    _row("trapezoid", _F, _P, axis=0),
    _row("tri", 3, 4, -1),
    _row("tril", _F, k=-1),
    _row("triu", _F, k=1),
    _concrete("unique", _I),
    _concrete("unique", _I, return_inverse=True, return_counts=True),
    _row("unique", _I, size=6, fill_value=0),
    _row("unravel_index", np.array([3, 7]), (3, 4)),
    _row("vander", floats(4), N=3, increasing=True),
    _row("var", _X, axis=[0, 2]),
    _row("vdot", _F, _P),
    _row("view", _F, dtype="int32"),
    _row("vsplit", _F, 3),
    _row("vstack", [_F, _P]),
    _row("where", _B, _F, 0.0),
    _row("where", _B, _I, _F),
    _concrete("where", _B),
    _row("zeros", (2, 3), dtype="int32"),
    _row("zeros_like", _F, dtype="bool"),
]

NN = [
    _row("adaptive_average_pool", _X, (4, 2)),
    _row("adaptive_average_pool", _S, 4),
    _row("adaptive_max_pool", _X, 3, data_format="channels_first"),
    _row("adaptive_max_pool", _V, (2, 3, 4)),
    _row("average_pool", _X, 2, strides=2),
    _row("average_pool", _X, 3, strides=2, padding="same"),
    _row("average_pool", _X, (2, 3), strides=(2, 1), padding="same", data_format="channels_first"),
    _row("batch_normalization", _X, floats(3), positive(3), -1, floats(3), floats(3)),
    _row("batch_normalization", _X, floats(6), positive(6), 1),
    _row("binary_crossentropy", np.round(positive(3, 4) - 1), np.abs(_F)),
    _row("binary_crossentropy", np.round(positive(3, 4) - 1), _F, from_logits=True),
    _row("categorical_crossentropy", np.eye(4, dtype="float32")[:3], np.abs(_F)),
    _row("categorical_crossentropy", np.eye(4, dtype="float32")[:3], _F, from_logits=True, axis=0),
    _row("conv", _X, floats(3, 2, 3, 4)),
    _row("conv", _X, floats(3, 3, 3, 4), strides=2, padding="same"),
    _row("conv", _X, floats(2, 2, 1, 6), padding="same"),
    _row("conv", _X, floats(2, 2, 3, 4), dilation_rate=2),
    _row("conv", _X, floats(2, 2, 6, 4), padding="same", data_format="channels_first"),
    _row("conv", _S, floats(3, 3, 4), strides=2),
    _row("conv", _V, floats(2, 2, 3, 2, 4), padding="same"),
    _row("conv_transpose", _X, floats(3, 2, 4, 3)),
    _row("conv_transpose", _X, floats(3, 3, 4, 3), strides=2, padding="same"),
    _row("conv_transpose", _X, floats(2, 3, 4, 3), strides=(3, 2), padding="same", output_padding=1),
    _row("conv_transpose", _S, floats(2, 4, 3), strides=3),
    _row("conv_transpose", _S, floats(3, 4, 3), padding="same", dilation_rate=2),
    _row("conv_transpose", _V, floats(2, 3, 2, 4, 2), strides=2, dilation_rate=3),
    _row("conv_transpose", _X, floats(3, 3, 4, 3), strides=(2, 3), padding="same", dilation_rate=2),
    _row("conv_transpose", _X, floats(3, 3, 4, 6), strides=2, data_format="channels_first"),
    _row("ctc_decode", positive(2, 7, 4), np.array([7, 5])),
    _row("ctc_decode", positive(2, 7, 4), np.array([7, 5]), merge_repeated=False, mask_index=3),
    _row("ctc_decode", 3 * floats(2, 6, 4), np.array([6, 4]), strategy="beam_search", beam_width=20, top_paths=3),
    _row("ctc_loss", integers(2, 3, high=4), floats(2, 7, 4), np.array([3, 2]), np.array([7, 6])),
    _row("ctc_loss", np.array([[1, 2, 0, 2], [1, 2, 1, 0]]), _L, np.array([4, 4]), np.array([4, 4])),  # 0 inside
    _row("ctc_loss", np.array([[1, 2, 0, 2], [1, 1, 0, 0]]), _L, np.array([3, 2]), np.array([4, 3])),
    _row("depth_to_space", floats(2, 3, 2, 8), 2),
    _row("depth_to_space", floats(2, 8, 3, 2), 2, data_format="channels_first"),
    _row("depthwise_conv", _X, floats(3, 3, 3, 2), padding="same"),
    _row("depthwise_conv", _X, floats(2, 2, 3, 1), strides=2),
    _row("depthwise_conv", _X, floats(2, 2, 6, 1), data_format="channels_first", dilation_rate=2),
    _row("depthwise_conv", _S, floats(3, 3, 2), padding="same"),
    _row("dot_product_attention", floats(2, 5, 4, 3), floats(2, 6, 4, 3), floats(2, 6, 4, 3)),
    _row("dot_product_attention", floats(2, 5, 4, 3), floats(2, 5, 2, 3), floats(2, 5, 2, 3), is_causal=True),
    _row(
        "dot_product_attention",
        *(floats(2, 5, 4, 3), floats(2, 6, 4, 3), floats(2, 6, 4, 3), floats(2, 4, 5, 6)),
        mask=np.tril(np.ones((2, 1, 5, 6), "bool")),
        scale=0.3,
    ),
    _row("elu", _F, alpha=0.5),
    _row("fold", floats(2, 12, 20), (6, 5), (2, 2), padding=0),
    _row("fold", floats(2, 18, 9), 5, 3, padding=1, stride=2),
    _row("gelu", _F, approximate=False),
    _row("glu", _F),
    _row("layer_normalization", _X, floats(3), floats(3)),
    _row("layer_normalization", _X, floats(5, 3), floats(5, 3), axis=(2, 3)),
    _row("layer_normalization", _X, axis=1, epsilon=0.1),
    _row("log_softmax", _X, axis=(1, 2)),
    _row("max_pool", _X, 2, strides=2),
    _row("max_pool", _X, 3, strides=2, padding="same"),
    _row("max_pool", _X, (2, 1), strides=1, data_format="channels_first"),
    _row("max_pool", _S, 2, strides=2, padding="same"),
    _row("max_pool", _V, 2, strides=2),
    _row("moments", _X, [0, 1]),
    _row("moments", _X.astype("float16"), (1, 2), keepdims=True),
    _row("multi_hot", integers(3, 4), 6),
    _row("normalize", _F, axis=0, order=3),
    _row("normalize", _F),
    _row("one_hot", integers(3, 2), 5),
    _row("one_hot", integers(3, 2), 5, axis=1, dtype="int32"),
    _row("polar", _P, _F),
    _row("psnr", _F, _P, 2.0),
    _row("relu", _I - 3),
    _row("rms_normalization", _X, floats(3)),
    _row("rms_normalization", _X, axis=(1, 2)),
    _row("separable_conv", _X, floats(3, 3, 3, 2), floats(1, 1, 6, 4), padding="same"),
    _row("separable_conv", _X, floats(2, 2, 3, 1), floats(1, 1, 3, 4), strides=2),
    _row("softmax", _X, axis=(1, 2)),
    _row("softmax", _F, axis=0),
    _row("space_to_depth", floats(2, 4, 6, 3), 2),
    _row("space_to_depth", floats(2, 3, 4, 6), 2, data_format="channels_first"),
    _row("sparse_categorical_crossentropy", np.array([0, 3, 1]), np.abs(_F)),
    _row("sparse_categorical_crossentropy", np.array([[0], [3], [1]]), _F, from_logits=True),
    _row("sparsemax", _F * 3, axis=0),
    _row("threshold", _F, 0.1, 7.0),
    _row("unfold", floats(2, 3, 6, 5), 2),
    _row("unfold", floats(2, 3, 6, 5), (2, 3), dilation=2, padding=1, stride=2),
]

MATH = [
    _row("cdist", floats(3, 4), floats(5, 4)),
    _row("cholesky", definite(3)),
    _row("cholesky", definite(3), upper=True),
    _row("cholesky_inverse", np.linalg.cholesky(definite(3))),
    _row("det", definite(3)),
    _row("eigh", definite(3)),
    _row("extract_sequences", floats(2, 9), 4, 2),
    _row("fft", (floats(3, 4), floats(3, 4))),
    _row("fft2", (floats(3, 4), floats(3, 4))),
    _row("ifft2", (floats(3, 4), floats(3, 4))),
    _row("in_top_k", np.array([0, 3, 1]), _F, 2),
    _row("inv", definite(3)),
    _row("irfft", (floats(3, 5), floats(3, 5))),
    _row("irfft", (floats(3, 5), floats(3, 5)), fft_length=6),
    _row("istft", (floats(2, 9, 5), floats(2, 9, 5)), 8, 3, 8),
    _row("istft", (floats(2, 9, 9), floats(2, 9, 9)), 12, 4, 16, window=None),
    _row("istft", (floats(9, 9), floats(9, 9)), 12, 4, 16, window="hamming", length=40),
    _row("logdet", definite(3)),
    _row("logsumexp", _F, axis=1, keepdims=True),
    _row("lstsq", floats(5, 3), floats(5)),
    _row("lu_factor", definite(3)),
    _row("matrix_rank", definite(3)),
    _row("norm", _F, ord=1, axis=1),
    _row("norm", _F, ord="fro", axis=(0, 1), keepdims=True),
    _row("pinv", floats(5, 3)),
    _row("qr", floats(5, 3)),
    _row("qr", floats(5, 3), mode="complete"),
    _row("rfft", _F),
    _row("rfft", _F, fft_length=6),
    _row("segment_max", floats(5, 2), np.array([0, 0, 1, 2, 2]), 3, sorted=True),
    _row("segment_min", floats(5), np.array([2, 0, 1, 2, 2]), num_segments=4),
    _row("segment_prod", floats(5), np.array([2, 0, 1, 2, 2]), num_segments=4),
    _row("segment_sum", floats(5, 2), np.array([0, 0, 1, 2, 2]), num_segments=3),
    _row("solve", definite(3), floats(3, 2)),
    _row("solve_triangular", np.linalg.cholesky(definite(3)), floats(3, 2), lower=True),
    _row("stft", floats(2, 30), 8, 3, 8),
    _row("stft", floats(40), 12, 4, 16, window="hamming", center=False),
    _row("stft", floats(40), 12, 4, 16, window=None),
    _row("svd", floats(4, 3)),
    _row("svd", floats(4, 3), full_matrices=False),
    _row("svd", floats(4, 3), compute_uv=False),
    _row("top_k", _F, 2),
    _row("view_as_complex", floats(3, 2)),
    _row("view_as_real", complexes(3)),
]

CONTROL = [
    _row("cast", _F, "int32"),
    _row("cast", _I, "bool"),
    _row("convert_to_tensor", _F),
    _row("convert_to_tensor", _F, dtype="float16"),
    _row("rearrange", floats(2, 6, 3), "b (h w) c -> h b (w c)", h=2),
    _row("rearrange", floats(2, 3, 4), "b h w -> w b h"),
    _row("saturate_cast", _F * 500, "int8"),
    _row("saturate_cast", _P * 1e10, "int32"),
    _row("saturate_cast", _I - 3, "uint8"),
    _row("saturate_cast", _B, "float32"),
    _row("scatter", np.array([[0, 1], [2, 0], [0, 1]]), floats(3), (3, 2)),
    _row("scatter_update", floats(3, 2), np.array([[0, 1], [2, 0]]), floats(2)),
    _row("scatter_update", floats(3, 2), np.array([[0, 1], [2, 0]]), floats(2), reduction="max"),
    _row("slice", _X, (0, 1, 2, 0), (2, 3, 2, 1)),
    _row("slice", _F, (1, 1), (-1, 2)),
    _row("slice_update", _F, (1, 1), floats(2, 2)),
    _row("unstack", _F, axis=1),
]

IMAGE = [
    _row("image.affine_transform", _X[0], np.array([1.1, 0.2, -0.5, 0.1, 0.9, 0.3, 0, 0], "float32")),
    _row(
        "image.affine_transform",
        *(floats(2, 3, 6, 5), np.array([[1, 0.2, 0, 0.1, 1, 0.5, 0, 0], [0.9, 0, 1, 0, 1.2, 0, 0, 0]], "float32")),
        interpolation="nearest",
        fill_mode="reflect",
        data_format="channels_first",
    ),
    _row("image.crop_images", _X, top_cropping=1, left_cropping=2, target_height=3, target_width=2),
    _row("image.crop_images", _X[0], bottom_cropping=1, right_cropping=0, target_height=3, left_cropping=2),
    _row("image.elastic_transform", _X, alpha=3.0, sigma=1.0, seed=7, data_format="channels_last"),
    _row("image.extract_patches", _X, 2),
    _row("image.extract_patches", _X[0], (3, 2), strides=(1, 2), padding="same"),
    _row("image.extract_patches", _X, 2, strides=1, dilation_rate=2, data_format="channels_first"),
    _row("image.extract_patches_3d", _V, 2),
    _row("image.extract_patches_3d", _V[0], (2, 1, 3), strides=1, padding="same"),
    _row("image.gaussian_blur", _X, (3, 5), (0.7, 1.5), data_format="channels_last"),
    _row("image.gaussian_blur", _X[0], data_format="channels_first"),
    _row("image.hsv_to_rgb", np.abs(_X)),
    _row("image.map_coordinates", _F, 3 * np.abs(floats(2, 5)), order=1),
    _row("image.map_coordinates", _F, 5 * floats(2, 2, 3), order=0, fill_mode="wrap"),
    _row("image.pad_images", _X, top_padding=1, left_padding=2, target_height=9, target_width=8),
    _row("image.pad_images", _X[0], top_padding=1, bottom_padding=2, right_padding=0, target_width=8),
    _row(
        "image.perspective_transform",
        _X[0],
        np.array([[0, 0], [0, 4], [5, 0], [5, 4]], "float32"),
        np.array([[1, 0], [0, 3], [5, 1], [4, 4]], "float32"),
    ),
    _row("image.perspective_transform", _X, floats(2, 4, 2), floats(2, 4, 2), interpolation="nearest"),
    _row("image.resize", _X, (4, 7)),
    _row("image.resize", _X[0], (12, 3), interpolation="bicubic", antialias=True),
    _row("image.resize", _X, (4, 4), interpolation="nearest", crop_to_aspect_ratio=True),
    _row("image.resize", _X, (3, 9), pad_to_aspect_ratio=True, fill_value=0.5),
    _row("image.resize", _X, (9, 3), pad_to_aspect_ratio=True, data_format="channels_first"),
    _row("image.resize", (100 * np.abs(_X)).astype("uint8"), (4, 7)),
    _row("image.rgb_to_grayscale", _X),
    _row("image.rgb_to_grayscale", (100 * np.abs(_X)).astype("uint8")),
    _row("image.rgb_to_hsv", np.abs(_X)),
    _row(
        "image.scale_and_translate",
        *(_X, (2, 4, 7, 3), np.array([0.8, 1.3], "float32"), np.array([0.5, -1.0], "float32"), (1, 2), "linear"),
    ),
    _row("image.sobel_edges", _X),
    _row("image.sobel_edges", _X, data_format="channels_first"),
    _row("image.ssim", np.abs(floats(2, 12, 13, 3)), np.abs(floats(2, 12, 13, 3))),
    _row("image.ssim", np.abs(floats(9, 8, 1)), np.abs(floats(9, 8, 1)), max_val=2.0, filter_size=5),
]

ROWS: list[Row] = [
    *(_row(name, _F) for name in UNARY),
    *(_row(name, _P if name != "arccos" and name != "erfinv" else _F) for name in POSITIVE),
    *(_row(name, _F, _P) for name in BINARY),
    *(_row(name, _I, integers(3, 4)) for name in INTEGER),
    *NUMPY,
    *NN,
    *MATH,
    *CONTROL,
    *IMAGE,
]
