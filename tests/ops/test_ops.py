"""What ops have in common: the arguments they take, the graph, masks, names, errors; and control flow."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import ops
from lamina.core import masking
from lamina.core.symbolic import KerasTensor
from lamina.core.variable import Variable


def test_namespaces_hold_ops_and_nothing_else():
    modules = {"boxes", "control", "crossentropy", "ctc", "image", "linalg", "math", "nn", "numpy"}
    names = {name for name in dir(ops) if name[0] != "_"}
    assert all(getattr(ops, name).__name__ == f"lamina.ops.{name}" for name in modules)
    assert all(callable(getattr(ops, name)) for name in names - modules)
    assert ops.nn.relu is ops.relu and ops.numpy.sum is ops.sum and ops.linalg.inv is ops.inv


def test_arguments_may_be_named_lists_numbers_numpy_arrays_and_variables():
    x = Variable(np.array([1.0, 2.0], "float32"))
    for second in ([3.0, 4.0], (3.0, 4.0), np.array([3.0, 4.0]), jnp.array([3.0, 4.0]), Variable([3.0, 4.0])):
        np.testing.assert_allclose(ops.add(x1=x, x2=second), [4, 6])
    np.testing.assert_allclose(ops.add(1, x), [2, 3])
    np.testing.assert_allclose(ops.concatenate([x, [5.0], np.ones(1)]), [1, 2, 5, 1])
    np.testing.assert_allclose(ops.sum([[1, 2], [3, 4]], axis=[0, 1]), 10)


def test_a_number_takes_the_dtype_of_the_array():
    assert ops.multiply(jnp.ones(2, "bfloat16"), 0.5).dtype == "bfloat16"
    assert ops.where(jnp.array([True]), jnp.ones(1, "float16"), 0.0).dtype == "float16"


def test_a_symbolic_tensor_among_any_arguments_makes_a_node():
    x = KerasTensor((None, 3))
    for out in (ops.add(x1=1.0, x2=x), ops.concatenate([np.ones((2, 3), "float32"), x]), ops.einsum("ij->ji", x)):
        assert isinstance(out, KerasTensor)
        assert [t is x for t in out.origin[0]._inbound_nodes[0].inputs] == [True]


def test_masks_ride_on_elementwise_ops_only():
    x, mask = jnp.ones((2, 3, 4)), jnp.array([[True, False, True], [True, True, False]])
    masking.set_mask(x, mask)
    for out in (
        ops.add(x, 1),
        ops.add(x1=1, x2=x),
        ops.relu(x),
        ops.softmax(x),
        ops.cast(x, "float16"),
        ops.clip(x, 0, 1),
    ):
        np.testing.assert_array_equal(masking.get_mask(out), mask)
    for out in (ops.sum(x, -1), ops.reshape(x, (6, 4)), ops.transpose(x), ops.flip(x, 1), ops.cumsum(x)):
        assert masking.get_mask(out) is None


def test_shape_dtype_and_size_of_any_kind_of_tensor():
    symbolic, variable = KerasTensor((None, 3)), Variable(np.zeros((2, 3), "int32"))
    assert ops.shape(symbolic) == (None, 3) and ops.shape(variable) == (2, 3) and ops.shape([[1, 2]]) == (1, 2)
    assert ops.dtype(symbolic) == "float32" and ops.dtype(variable) == "int32"
    assert ops.ndim(symbolic) == 2 and ops.ndim(variable) == 2 and ops.size(jnp.zeros((2, 3))) == 6
    assert ops.is_tensor(jnp.zeros(1)) and not ops.is_tensor(np.zeros(1)) and not ops.is_tensor(symbolic)


def test_conversion_keeps_what_is_an_array_already():
    x = jnp.ones(2)
    assert ops.convert_to_tensor(x) is x
    assert ops.convert_to_tensor([1, 2], dtype="float16").dtype == "float16"
    numpy = ops.convert_to_numpy(Variable([1.0]))
    assert type(numpy) is np.ndarray and numpy.flags.writeable
    with pytest.raises(ValueError, match="ragged must not be set"):
        ops.convert_to_tensor(x, ragged=True)


def test_operators_of_symbolic_tensors_have_the_names_of_keras():
    x, flag = KerasTensor((2, 2)), KerasTensor((2, 2), "bool")
    made = {
        "Add": 1 + x, "Subtract": x - 1, "Multiply": x * 2, "TrueDivide": x / 2, "FloorDivide": x // 2, "Mod": x % 2,
        "Power": x**2, "Matmul": x @ x, "LogicalAnd": flag & flag, "LogicalOr": flag | flag, "LogicalXor": flag ^ flag,
        "LogicalNot": ~flag, "Less": x < 1, "LessEqual": x <= 1, "Greater": x > 1, "GreaterEqual": x >= 1,
        "NotEqual": x != 1, "Negative": -x, "Absolute": abs(x), "GetItem": x[0], "Reshape": x.reshape((4,)),
        "Cast": x.astype("int32"), "Transpose": x.T, "Squeeze": KerasTensor((1, 2)).squeeze(),
    }  # fmt: skip
    assert {name: type(t.origin[0]).__name__ for name, t in made.items()} == {name: name for name in made}


def test_cond_and_switch():
    variable = Variable(3.0)
    assert ops.cond(jnp.array(True), lambda: variable + 1, lambda: variable.value) == 4
    assert ops.switch(5, [lambda x: x, lambda x: 2 * x], 4.0) == 8  # the index is moved into range


def test_cond_inside_a_compiled_function_reads_variables():
    variable = Variable(3.0)
    compiled = lamina.jit(lambda flag: ops.cond(flag, lambda: variable * 2, lambda: variable * 1))
    assert compiled(jnp.array(True)) == 6
    variable.assign(5.0)
    assert compiled(jnp.array(False)) == 5


@pytest.mark.parametrize("limit, expected", [(None, (5, 10)), (2, (2, 1))])
def test_while_loop(limit, expected):
    found = ops.while_loop(lambda i, s: i < 5, lambda i, s: (i + 1, s + i), (0, 0), maximum_iterations=limit)
    assert tuple(map(int, found)) == expected
    assert int(ops.while_loop(lambda i: i < 5, lambda i: i + 2, 0)) == 6


def test_loops_over_parts():
    xs = jnp.arange(6.0).reshape(3, 2)
    carry, ys = ops.scan(lambda c, x: (c + x.sum(), c), 0.0, xs, reverse=True)
    assert carry == 15 and ys.tolist() == [14, 9, 0]
    assert ops.fori_loop(0, 4, lambda i, v: v + i, 0) == 6
    np.testing.assert_allclose(ops.map(lambda x: x * 2, xs), xs * 2)
    np.testing.assert_allclose(ops.vectorized_map(jnp.sum, xs), [1, 5, 9])
    np.testing.assert_allclose(ops.associative_scan(jnp.add, xs), jnp.cumsum(xs, 0))
    with pytest.raises(ValueError, match="unroll must be"):
        ops.scan(lambda c, x: (c, x), 0.0, xs, unroll=0)


def test_loops_take_symbolic_tensors():
    xs = KerasTensor((5, 2))
    carry, ys = ops.scan(lambda c, x: (c + x, c * 2), KerasTensor((2,)), xs)
    assert carry.shape == (2,) and ys.shape == (5, 2)
    assert ops.map(jnp.sum, xs).shape == (5,)
    assert ops.vectorized_map(lambda x: x[:1], xs).shape == (5, 1)


def test_gradients_may_be_stopped_or_one_s_own():
    variable = Variable(2.0)
    assert jax.grad(lambda x: ops.stop_gradient(variable) * ops.stop_gradient(x) * x)(3.0) == 6

    @ops.custom_gradient
    def clipped(x):
        return x**2, lambda upstream: upstream * 7

    assert clipped(variable) == 4 and jax.grad(clipped)(3.0) == 7


def test_jvp_takes_the_derivative_in_a_direction():
    value, change = ops.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.5))
    assert value == 6 and change == 4


def test_vectorize_takes_names_of_axes():
    dot = ops.vectorize(jnp.dot, signature="(n),(n)->()")
    assert dot(jnp.ones((4, 3)), jnp.ones(3)).shape == (4,)


REFUSED = [
    (
        ops.conv,
        (jnp.ones((1, 4, 4, 3)), jnp.ones((2, 2, 2, 4))),
        "3 input channels must be a multiple of the kernel's 2",
    ),
    (ops.conv, (jnp.ones((1, 2, 2, 3)), jnp.ones((3, 3, 3, 4))), "inputs must be at least as large as the window"),
    (ops.conv, (jnp.ones((1, 4, 4, 3)), jnp.ones((2, 2, 3, 4)), 1, "causal"), "padding must be 'valid' or 'same'"),
    (ops.conv, (jnp.ones((1, 4, 4, 3)), jnp.ones((2, 2, 3, 4)), (1, 2, 3)), "strides must be 1 or 2 integers"),
    (ops.depthwise_conv, (jnp.ones((1, 4, 4, 3)), jnp.ones((2, 2, 2, 1))), "must be the kernel's"),
    (ops.conv_transpose, (jnp.ones((1, 4, 4, 3)), jnp.ones((2, 2, 4, 2))), "must be the kernel's last size"),
    (ops.max_pool, (jnp.ones((1, 4, 4, 3)), (2, 2, 2)), "pool_size must be 1 or 2 integers"),
    (ops.max_pool, (jnp.ones((1, 4, 4, 3)), 2, 2, "valid", "last"), "max_pool: data_format must be 'channels_first'"),
    (ops.dot_product_attention, (jnp.ones((2, 3, 4)),) * 3, r"must be \(batch, time, heads, dim\)"),
    (ops.binary_crossentropy, (jnp.ones(3), jnp.ones(4)), "must have one shape"),
    (ops.sparse_categorical_crossentropy, (jnp.ones(3), jnp.ones((4, 2))), "without axis -1"),
    (ops.normalize, (jnp.ones(3), -1, 0), "order must be a positive integer"),
    (ops.multi_hot, (jnp.ones(3, int),), "num_classes must be given"),
    (ops.depth_to_space, (jnp.ones((1, 2, 2, 4)), 1), "block_size must be an integer of at least 2"),
    (ops.ctc_decode, (jnp.ones((1, 2, 3)), [2], "best"), "strategy must be 'greedy' or 'beam_search'"),
    (ops.add, (jnp.ones((3, 4)), jnp.ones(5)), r"add: shapes must broadcast; got x1 float32\[3,4\], x2 float32\[5\]"),
    (ops.add, (jnp.ones(3), "text"), "arguments must be arrays or numbers; got x1 .*, x2 'text'"),
    (ops.sum, (jnp.ones((3, 4)), 7), r"axis 7 is out of bounds.* got x float32\[3,4\], axis 7"),
    (ops.einsum, ("ij,jk->ik", jnp.ones((3, 4)), jnp.ones((3, 4))), "operands"),
    (ops.bitwise_and, (jnp.ones(3), jnp.ones(3)), r"does not accept dtype float32.* got x float32\[3\]"),
    (ops.take, (jnp.ones(3), jnp.ones(3)), "indices must have an integer type"),
    (ops.mean, (jnp.ones(3), "rows"), "got x .*, axis 'rows'"),
    (ops.ones, ((2,), "number"), "dtype must name a known dtype"),
    (ops.squeeze, ("text",), "got x 'text'"),
    (jax.jit(ops.nonzero), (jnp.ones(3),), "needs values, which arrays inside compiled code do not have yet"),
    (jax.jit(ops.get_item), (jnp.ones(3), jnp.ones(3, bool)), "needs values"),
    (ops.fft, (jnp.ones(3),), r"must be a pair \(real, imaginary\)"),
    (ops.stft, (jnp.ones(9), 8, 2, 4), "fft_length must be at least sequence_length"),
    (ops.stft, (jnp.ones(9), 4, 0, 4), "sequence_stride must be a positive integer"),
    (ops.cholesky, (-jnp.eye(2),), "x must be positive definite"),
    (ops.inv, (jnp.ones((2, 3)),), "must be square matrices"),
    (ops.qr, (jnp.ones((2, 2)), "full"), "mode must be 'reduced' or 'complete'"),
    (ops.scatter_update, (jnp.ones(3), [[0]], [1.0], "mean"), "reduction must be one of None, 'add'"),
    (ops.rearrange, (jnp.ones((2, 3)), "a b -> a c"), "same names on both sides"),
    (ops.rearrange, (jnp.ones((2, 3)), "(a b) c -> a b c"), "all but one of a, b must be given"),
    (ops.searchsorted, (jnp.ones((2, 3)), 1.0), "must have one axis"),
    (ops.pad, (jnp.ones(3), 1, "reflect", 0.0), "constant_values must be left out"),
    (ops.image.resize, (jnp.ones((4, 4, 3)), (2, 2), "cubic"), "interpolation must be one of 'bilinear'"),
    (ops.image.rgb_to_hsv, (jnp.ones((4, 4, 4)),), r"have 3 channels, got float32 and shape \(4, 4, 4\)"),
    (ops.image.hsv_to_rgb, (jnp.ones((4, 4, 4)),), "must be of a float dtype and have 3 channels"),
    (ops.slice, (jnp.ones((3, 3)), (1, 1), (2, 2, 2)), "argument 3 is longer .*, shape"),
    (ops.split, (jnp.ones(6), 0), "by zero; got x .*, indices_or_sections 0"),
    (ops.unstack, (jnp.ones((3, 2)), 5), "axes and indices must exist; got x .*, num 5"),
    (ops.image.resize, (jnp.ones((4, 4)), (2, 2)), "images must have 3 or 4 axes"),
    (ops.image.pad_images, (jnp.ones((4, 4, 3)), 1), "exactly two of top_padding"),
    (ops.image.crop_images, (jnp.ones((4, 4, 3)), 3, 0, 3, 0), "must be at least 0 for a size of 4"),
    (
        ops.reshape,
        (jnp.ones(20), (-1, -1, 5)),
        r"at most one size of a shape may be -1; got x .*, newshape \[-1, -1, 5\]",
    ),
    (ops.where, (jnp.ones(3) > 0, jnp.ones(3)), "x1 and x2 must both be given, or none of them"),
    (ops.tile, (jnp.ones(3), [2, -7]), r"repeats must not be below 0; got x float32\[3\], repeats \[2, -7\]"),
    (ops.histogram, (jnp.ones(3), 2, (1, 0)), "range must be a lower and an upper bound"),
]


@pytest.mark.parametrize("op, args, message", REFUSED, ids=lambda v: getattr(v, "__name__", None))
def test_what_cannot_be_is_refused_by_name(op, args, message):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        op(*args)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(op.__name__)


X = KerasTensor((None, 3))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: X + np.ones((2, 2)), r"add: shapes must broadcast; got x1 float32\[None,3\], x2 float64\[2,2\]\."),
        (lambda: ops.matmul(X, X), r"matmul: contracting .* got x1 float32\[None,3\], x2 float32\[None,3\]\."),
        (lambda: ops.concatenate([X, KerasTensor((None, 4))], 0), "concatenate: shapes must be equal but for the axis"),
        (lambda: ops.reshape(KerasTensor((2, 3)), (4, 2)), "reshape: cannot reshape"),
        (lambda: ops.transpose(X, (0, 0)), r"transpose: .* axes \[0, 0\]"),
        (lambda: ops.argmax(X, axis=4), r"argmax: axes and indices must exist; got x float32\[None,3\], axis 4\."),
        (lambda: ops.swapaxes(X, 0, 5), "swapaxes: axes and indices must exist"),
        (lambda: ops.split(jnp.ones((2, 4)), 2, axis=7), "split: axes and indices must exist"),
    ],
)
def test_a_shape_or_an_axis_that_does_not_fit_is_a_value_error(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


@pytest.mark.parametrize("key", [7, -4, (slice(None), 5), (..., 5), (0, 0, 0), (..., ...), (None, 0, slice(1), 5)])
@pytest.mark.parametrize("x", [jnp.ones((3, 2)), KerasTensor((3, 2)), KerasTensor((None, 2))], ids=repr)
def test_an_index_that_is_not_there_is_an_index_error(x, key):
    if key not in (7, -4) or x.shape[0]:
        with pytest.raises(IndexError, match=r"get_item: .*(index|indices)"):
            ops.get_item(x, key)


def test_indices_that_are_there_are_taken():
    x = KerasTensor((None, 2, 3))
    for key, shape in ((1000, (2, 3)), ((0, -2, ...), (3,)), ((..., None, 2), (None, 2, 1)), (True, (1, None, 2, 3))):
        assert ops.get_item(x, key).shape == shape


def test_another_shape_of_a_numpy_array_is_an_array_of_jax():
    reshaped = ops.reshape(np.arange(6.0), (2, -1))
    assert isinstance(reshaped, jax.Array) and reshaped.dtype == "float32"


def test_the_inverse_of_a_batch_of_factors():
    factors = jnp.linalg.cholesky(jnp.array([np.diag([1.0, 2.0]), [[2.0, 1.0], [1.0, 3.0]], np.eye(2)]))
    expected = jnp.linalg.inv(factors @ factors.mT)
    np.testing.assert_allclose(ops.cholesky_inverse(factors), expected, rtol=1e-5)
    assert ops.cholesky_inverse(KerasTensor((None, 2, 2))).shape == (None, 2, 2)


def test_an_argument_that_was_left_out_is_named():
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'order'"):
        ops.image.map_coordinates(jnp.ones((3, 4)), jnp.ones((2, 4)))


def test_ops_load_without_heavy_packages():
    code = (
        "import sys, types; package = types.ModuleType('lamina'); package.__path__ = sys.argv[1:]; "
        "sys.modules['lamina'] = package; import lamina.ops; "
        "assert not {'tensorflow', 'torch', 'keras', 'h5py', 'scipy.signal'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *lamina.__path__], check=True)


@pytest.mark.parametrize("args, kwargs", [((), {}), ((np.eye(2), 1, 2), {}), ((np.eye(2),), {"l": 1})])
def test_a_wrong_call_is_told_the_right_one(args, kwargs):
    with pytest.raises(TypeError, match=r"diag: must be called as diag\(x, k=0\), got"):
        ops.diag(*args, **kwargs)


def test_the_error_of_a_function_of_the_program_stays():
    def own(x):
        return {}["missing"]

    for call in (ops.vectorized_map, ops.map):
        with pytest.raises(KeyError, match=r"^'missing'"):
            call(own, jnp.ones((2, 3)))
    with pytest.raises(TypeError, match=r"^add got incompatible shapes"):
        ops.map(lambda x: jnp.add(x, jnp.ones(7)), jnp.ones((2, 3)))


def test_shapes_that_only_values_tell_are_none_in_a_graph():
    x, flat = KerasTensor((3, 4)), KerasTensor((None,), "int32")
    for made, shapes in (
        (ops.bincount(flat), [(None,)]),
        (ops.bincount(KerasTensor((2, 9), "int32"), minlength=100), [(2, 100)]),
        (ops.nonzero(x), [(None,), (None,)]),
        (ops.unique(flat, return_inverse=True), [(None,), (None,)]),
        (ops.unique(flat, size=4), [(4,)]),
        (ops.segment_sum(x, KerasTensor((3,), "int32")), [(None, 4)]),
        (ops.repeat(x, KerasTensor((3,), "int32"), axis=0), [(None, 4)]),
        (ops.repeat(x, [1, 2, 3], axis=0), [(6, 4)]),
        (ops.slice(x, KerasTensor((2,), "int32"), (-1, 2)), [(None, 2)]),
        (ops.image.gaussian_blur(KerasTensor((2, 5, 4, 3)), KerasTensor((2,), "int32")), [(2, 5, 4, 3)]),
        (x[KerasTensor((3,), "bool")], [(None, 4)]),
    ):
        assert [t.shape for t in jax.tree.leaves(made)] == shapes
    with pytest.raises(TypeError, match="tile: needs values"):
        ops.tile(x, KerasTensor((2,), "int32"))


def test_the_number_of_segments_is_that_of_the_numbers_met():
    np.testing.assert_array_equal(ops.segment_sum(np.ones(3, "float32"), np.array([0, 2, 2])), [1, 0, 2])


def test_a_graph_whose_sizes_values_tell_runs_outside_of_compiled_code():
    x = lamina.Input((), dtype="int32")
    model = lamina.Model(x, ops.bincount(x))
    assert model.output_shape == (None,) and model(np.array([1, 1, 3])).tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_similarity_of_half_precision_is_that_of_its_values(dtype):
    pair = np.random.default_rng(0).uniform(0, 1, (2, 2, 16, 16, 3)).astype(dtype)
    half, wide = (np.asarray(ops.image.ssim(*images), "float32") for images in (pair, pair.astype("float32")))
    np.testing.assert_allclose(half, wide, rtol=2**-8)  # one rounding, at the end
