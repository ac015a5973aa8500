"""The functions and policies of quantization beside those of Keras."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import lamina
from lamina.core.configurable import serialize

ours, theirs = lamina.quantizers, keras.quantizers


def assert_same(mine, other, tolerance=1e-6):
    for one, same in zip(jax.tree.leaves(mine), jax.tree.leaves(other), strict=True):
        one, same = np.asarray(one), np.asarray(same)
        assert one.dtype == same.dtype
        np.testing.assert_allclose(one.astype("float64"), same.astype("float64"), rtol=tolerance, atol=tolerance)


def matrix(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("axis", [0, -1, (0, 1)])
@pytest.mark.parametrize("to_numpy", [False, True])
def test_abs_max_quantize(axis, to_numpy):
    x = matrix(7, 5)
    assert_same(*(k.abs_max_quantize(x, axis, (-8, 7), to_numpy=to_numpy) for k in (ours, theirs)))
    assert_same(*(k.AbsMaxQuantizer(axis=axis)(x) for k in (ours, theirs)))


@pytest.mark.parametrize(("rows", "block"), [(64, 16), (7, 3), (40, 128)])
def test_abs_max_quantize_grouped_with_zero_point(rows, block):
    x = matrix(rows, 33)
    assert_same(*(k.abs_max_quantize_grouped_with_zero_point(x, block, to_numpy=True) for k in (ours, theirs)))


@pytest.mark.parametrize(("dtype", "least"), [("int8", -8), ("uint8", 0)])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("size", [6, 5])
def test_packing(dtype, least, axis, size):
    x = np.random.default_rng(0).integers(least, least + 16, (size, size, 3)).astype(dtype)
    mine, other = (k.pack_int4(x, axis, dtype) for k in (ours, theirs))
    assert_same(mine[0], other[0])
    assert mine[1:] == other[1:]
    assert_same(ours.unpack_int4(mine[0], mine[2], axis, dtype), x)


@pytest.mark.parametrize("axis", [None, -1])
@pytest.mark.parametrize(("bits", "narrow"), [(8, False), (4, True)])
def test_fake_quant_with_min_max_vars(axis, bits, narrow):
    size = () if axis is None else (3,)
    low, high = -np.abs(matrix(*size)), 0.1 + np.abs(matrix(*size, seed=1))

    def run(k):
        def loss(x, low, high):
            y = k.fake_quant_with_min_max_vars(x, low, high, num_bits=bits, narrow_range=narrow, axis=axis)
            return (y * np.arange(12).reshape(4, 3)).sum(), y

        return jax.grad(loss, (0, 1, 2), has_aux=True)(*(jnp.asarray(v) for v in (2 * matrix(4, 3), low, high)))

    assert_same(run(ours), run(theirs), 1e-5)
    x = lamina.Input((3,))
    assert lamina.quantizers.fake_quant_with_min_max_vars(x, -1.0, 1.0).shape == (None, 3)


def test_floats_of_8_bits():
    x, history = 100 * matrix(4, 3), jnp.arange(5.0)
    assert_same(*(k.compute_float8_amax_history(x, history) for k in (ours, theirs)))
    for amax in (0.0, 3.0, np.inf):
        assert_same(*(k.compute_float8_scale(jnp.float32(amax), jnp.float32(0.5), 448.0, 1) for k in (ours, theirs)))
    for dtype in ("float8_e4m3fn", "float8_e5m2"):
        assert_same(*(k.quantize_and_dequantize(jnp.asarray(x), 0.7, dtype, "float32") for k in (ours, theirs)))


CONFIGURATIONS = {
    "Int8QuantizationConfig": {},
    "Int4QuantizationConfig": {"block_size": -1},
    "Float8QuantizationConfig": {},
    "AbsMaxQuantizer": {"axis": 0, "value_range": (-8, 7)},
    "GPTQConfig": {"dataset": ["a"], "tokenizer": str.split, "weight_bits": 8, "symmetric": True},
    "AWQConfig": {"dataset": ["a"], "tokenizer": str.split, "num_grid_points": 3},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations(name):
    mine, other = (getattr(k, name)(**CONFIGURATIONS[name]) for k in (ours, theirs))
    form = serialize(mine)
    assert form == keras.saving.serialize_keras_object(other)
    assert ours.serialize(ours.deserialize(form)) == form
    if "Config" in name:
        assert mine.mode == other.mode


POLICIES = [
    "int8_from_float32", "int4_from_mixed_bfloat16", "int4/64_from_float32", "float8_from_bfloat16",
    "gptq/4/128_from_float32", "awq/4/-1_from_float32", "mixed_float16",
]  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_policies(name):
    mine, other = (k.dtype_policies.get(name) for k in (lamina, keras))
    assert repr(mine) == repr(other)
    for attribute in ("name", "compute_dtype", "variable_dtype", "quantization_mode"):
        assert getattr(mine, attribute) == getattr(other, attribute)
    form = lamina.dtype_policies.serialize(mine)
    assert form == keras.dtype_policies.serialize(other)
    assert lamina.dtype_policies.deserialize(form) == mine


@pytest.mark.parametrize("default", [None, "float16"])
def test_maps_of_policies(default):
    forms = []
    for k in (lamina, keras):
        policies = k.dtype_policies.DTypePolicyMap(default, {"a/.*": k.dtype_policies.get("int8_from_float32")})
        policies["b"] = "bfloat16"
        assert [policies[path].name for path in ("a/x", "b")] == ["int8_from_float32", "bfloat16"]
        assert policies["c"].name == (default or "float32")
        assert (len(policies), list(policies), "b" in policies, "a/x" in policies) == (2, ["a/.*", "b"], True, False)
        forms.append(k.dtype_policies.serialize(policies))
    assert forms[0] == forms[1]
    assert lamina.dtype_policies.deserialize(forms[0]).get_config() == forms[0]["config"]
