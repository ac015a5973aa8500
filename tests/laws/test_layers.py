"""What holds for every layer: one table of rows (`descriptors.py`), one test a law."""

import contextlib
import copy
import functools
import inspect
import json
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers, quantizers
from lamina.core import masking, scope
from lamina.core.configurable import deserialize, serialize
from lamina.core.symbolic import infer
from lamina.training import rows
from tests.laws.descriptors import CHANGED_BY_TRAINING, ROWS, Made

# Rows of a batch meet in them in training, or in a function that is not the library's.
MEET = {"ActivityRegularization", "AugMix", "CutMix", "Equalization", "Lambda", "MixUp", "RandAugment"}
FIRST_OF_CLASS = list({row.layer: row for row in reversed(ROWS)}.values())[::-1]


def over(rows):
    return pytest.mark.parametrize("row", rows, ids=repr)


every = over(ROWS)


@functools.cache
def built(row):
    """A layer that has been called, for laws that leave it as it is."""
    layer = row.make()
    call(row, layer)
    return layer


@functools.cache
def outputs(row):
    return call(row, built(row))


def call(row, layer, convert=np.asarray, **more):
    return layer(*arrays(row, convert), **{**row.call, **more})


def arrays(row, convert=jnp.asarray):
    return jax.tree.map(convert, row.data())


def twin_of(row, layer, **more):
    """Another layer of the row with the same weights."""
    twin = row.make(**more)
    twin(*row.symbolic(), **row.call)
    twin.set_weights(layer.get_weights())
    return twin


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)):
        np.testing.assert_array_equal(mine, other)


def assert_close(ours, theirs, tolerance=1e-5):
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        mine, other = np.asarray(mine, "float32"), np.asarray(other, "float32")
        np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance * np.abs(other).max(initial=0))


def shapes_of(structure):
    return [(x.shape, str(x.dtype)) for x in jax.tree.leaves(structure)]


def described(variables):
    """The variables without the numbers that make automatic names unique."""
    return [(re.sub(r"_\d+/", "/", v.path), v.shape, v.dtype, v.trainable) for v in variables]


# The table ----------------------------------------------------------------------------------------------------------


def test_rows_differ():
    assert len({repr(row) + str(row.inputs) for row in ROWS}) == len(ROWS)


# Configuration ------------------------------------------------------------------------------------------------------


@every
def test_a_configuration_loses_nothing(row):
    layer = row.make(name="other")
    config = layer.get_config()
    twin = type(layer).from_config(config)
    assert twin.get_config() == config
    assert twin.name == "other"


@every
def test_a_serialized_layer_is_json_and_comes_back(row):
    form = serialize(row.make())
    assert serialize(deserialize(form)) == form
    read = json.loads(json.dumps(form))
    assert json.loads(json.dumps(serialize(deserialize(read)))) == read


@every
def test_a_layer_from_a_configuration_computes_the_same(row):
    layer = built(row)
    twin = type(layer).from_config(json.loads(json.dumps(serialize(layer)))["config"])
    call(row, twin)
    twin.set_weights(layer.get_weights())
    assert_equal(call(row, twin), outputs(row))


# What each constructor argument is changed to: by (layer, argument), argument, or the end of its name.
OTHER = {
    "activation": "sigmoid",
    "alpha": 0.25,
    "attention_axes": (1,),
    "bias_axes": None,
    "center": False,
    "depth_multiplier": 3,
    "dilation_rate": 2,
    "dropout": 0.25,
    "epsilon": 0.25,
    "groups": 3,
    ("GroupNormalization", "axis"): 1,
    ("GroupNormalization", "groups"): 4,
    ("SpectralNormalization", "layer"): Made("Dense", {"units": 11}),
    "logit_soft_cap": 3.0,
    "num_key_value_heads": 4,
    "output_size": 5,
    "power_iterations": 4,
    "reverse_dtype": "float16",
    "tie_weights": False,
    "keepdims": True,
    "lora_rank": 2,
    "kernel_size": 1,
    "mask_value": 7.0,
    "mask_zero": True,
    "max_value": 0.5,
    "momentum": 0.25,
    "n": 7,
    "negative_slope": 0.25,
    "noise_shape": (1, None, None),
    "normalize": True,
    "output_dim": 11,
    "pool_size": 5,
    "quantization_config": quantizers.Int4QuantizationConfig(),
    "rate": 0.25,
    "recurrent_activation": "tanh",
    "recurrent_dropout": 0.25,
    "renorm_momentum": 0.25,
    "renorm_clipping": {"rmax": 2.0},
    "scale": False,
    "score_mode": "concat",
    "seed": 99,
    "shared_axes": [2],
    "sliding_window": 9,
    "stddev": 0.25,
    "strides": 4,
    "synchronized": True,
    "target_shape": (3, 10),
    "threshold": 0.25,
    "units": 11,
    "use_bias": False,
    "value_dim": 11,
    **dict.fromkeys(("cropping", "size"), 4),
    **dict.fromkeys(("filters", "input_dim", "key_dim", "head_dim", "num_heads", "num_query_heads"), 12),
    **dict.fromkeys(("l1", "l2"), 0.25),
    **dict.fromkeys(("go_backwards", "return_state", "stateful", "unroll", "zero_output_for_mask"), True),
    ("GRU", "return_sequences"): False,
    ("GRU", "reset_after"): False,
    "return_sequences": True,
    "reset_after": True,
    "unit_forget_bias": False,
    "renorm": True,
    "use_gate": True,
    ("Activation", "activation"): "relu",
    ("AdditiveAttention", "use_scale"): False,
    ("Attention", "use_scale"): True,
    ("Concatenate", "axis"): 1,
    ("Dot", "axes"): 1,
    ("EinsumDense", "equation"): "xy,yz->xz",
    ("EinsumDense", "output_shape"): (11,),
    ("Lambda", "arguments"): {"plus": 1.0},
    ("Lambda", "function"): jnp.negative,
    ("MultiHeadAttention", "output_shape"): (11,),
    ("Permute", "dims"): (1, 2),
    ("RNN", "cell"): Made("GRUCell", {"units": 11}),
    ("StackedRNNCells", "cells"): [Made("GRUCell", {"units": 11})],
    ("Bidirectional", "layer"): Made("LSTM", {"units": 11}),
    ("Bidirectional", "backward_layer"): Made("GRU", {"units": 11, "go_backwards": True}),
    ("Bidirectional", "merge_mode"): "ave",
    ("TimeDistributed", "layer"): Made("Dense", {"units": 11}),
    ("UpSampling2D", "interpolation"): "lanczos3",
    **{
        (layer, "scale"): 0.25
        for layer in ("Rescaling", "RandomElasticTransform", "RandomErasing", "RandomPerspective")
    },
    ("RandomFlip", "mode"): "horizontal",
    ("RandomPosterization", "factor"): 7,
    ("STFTSpectrogram", "mode"): "psd",
    ("STFTSpectrogram", "window"): "blackman",
    **dict.fromkeys(("addition_factor", "threshold_factor", "x_factor", "y_factor", "factor", "sigma"), 0.25),
    **dict.fromkeys(
        ("height_factor", "width_factor", "offset", "ref_power", "min_power", "fill_value", "mag_exp"), 0.25
    ),
    **dict.fromkeys(("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor"), 0.25),
    **dict.fromkeys(("antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio", "expand_dims", "periodic"), True),
    **dict.fromkeys(("height", "width", "bins", "max_number", "num_ops", "num_chains", "chain_depth", "top_db"), 11),
    **dict.fromkeys(("all_ops", "power_to_db"), False),
    **dict.fromkeys(("fft_length", "frame_length"), 32),
    **dict.fromkeys(("frame_step", "sequence_stride", "sequence_length", "num_mel_bins", "max_freq"), 8),
    "min_freq": 2.0,
    "sampling_rate": 99,
    "window": "hamming",
    "scaling": None,
    "clip_limit": 9.0,
    "tile_grid_size": (1, 1),
    "value_range": (-9.0, 9.0),
    "interpolation": "nearest",
    "fill_mode": "constant",
    **{(f"ZeroPadding{n}D", "padding"): 4 for n in (1, 2, 3)},
    "output_padding": 0,
    "padding": "same",
    "data_format": "channels_first",
    "dtype": "mixed_bfloat16",
    **dict.fromkeys(("max_tokens", "num_oov_indices", "num_tokens", "num_bins"), 12),
    **dict.fromkeys(("invert", "pad_to_max_tokens"), True),
    "bin_boundaries": [1.0, 2.0],
    **dict.fromkeys(("mask_token", "mask_value", "oov_token"), 99),
    "oov_method": "floormod",
    "output_mode": "count",
    "salt": [9, 9],
    "vocabulary": [7, 8],
    ("CategoryEncoding", "output_mode"): "multi_hot",
    ("Hashing", "dtype"): "int32",
    ("Normalization", "axis"): (0, 1),
    "name": "other",
    "trainable": False,
    "axis": -2,
    "_initializer": "he_normal",
    "_regularizer": "l1",
    "_constraint": "non_neg",
}
# Arguments that have one value only, or are no part of the configuration by themselves.
FIXED = {
    "lora_alpha", "gptq_unpacked_column_size", "flash_attention", "weights", "use_cudnn", "sparse", "vocabulary_dtype",
    "idf_weights", ("Resizing", "fill_mode"),
    ("Normalization", "mean"), ("Normalization", "variance"), ("Discretization", "num_bins"),  # not alone
    ("Lambda", "output_shape"), ("Lambda", "mask"), ("Lambda", "function"),
}  # fmt: skip
# Their configurations have few keys, as those of Keras.
FEW_KEYS = {*(f"SpatialDropout{n}D" for n in (1, 2, 3)), "Discretization"}


def other_value(layer, argument):
    keys = (layer, argument), argument, "_" + argument.rpartition("_")[2]
    found = [OTHER[key] for key in keys if key in OTHER]
    assert found, f"OTHER must have a value for {layer}({argument}=...)"
    return found[0]


def arguments_of(row):
    signature = inspect.signature(getattr(layers, row.layer)).parameters
    named = [n for n, p in signature.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    common = ["name", "dtype"] + ["trainable"] * (row.layer not in FEW_KEYS)
    return [n for n in dict.fromkeys(named + common) if not {n, (row.layer, n)} & FIXED]


@over(FIRST_OF_CLASS)
def test_every_argument_is_in_the_configuration_and_restored(row):
    usual = row.make().get_config()
    for argument in arguments_of(row):
        value = other_value(row.layer, argument)
        config = row.make(**{argument: value}).get_config()
        assert config[argument] != usual.get(argument), argument
        assert type(row.make()).from_config(config).get_config() == config, argument


# Shapes and dtypes --------------------------------------------------------------------------------------------------


@every
def test_inferred_shapes_and_dtypes_are_the_real_ones(row):
    inferred = row.make()(*row.symbolic(), **row.call)
    real = [((None, *shape[1:]), dtype) for shape, dtype in shapes_of(outputs(row))]
    assert shapes_of(inferred) == real


@every
def test_what_was_inferred_for_an_equal_layer_is_what_is_inferred_afresh(row, monkeypatch):
    for free in {(), row.free}:
        row.make()(*row.symbolic(free), **row.call)  # so that the answer is known, if it is one that is kept
        again = row.make()(*row.symbolic(free), **row.call)
        with monkeypatch.context() as context:
            context.setattr(
                "lamina.layer.base.remembered", lambda layer, args, kwargs: infer(layer.__call__, args, kwargs)
            )
            afresh = row.make()(*row.symbolic(free), **row.call)
        assert jax.tree.structure(again) == jax.tree.structure(afresh)
        assert shapes_of(again) == shapes_of(afresh)


@over([row for row in ROWS if row.free])
def test_unknown_sizes_stay_unknown_and_known_ones_known(row):
    inferred = row.make()(*row.symbolic(row.free), **row.call)
    for (shape, dtype), (real, real_dtype) in zip(shapes_of(inferred), shapes_of(outputs(row)), strict=True):
        assert dtype == real_dtype
        assert len(shape) == len(real)
        assert all(size in (None, known) for size, known in zip(shape, real))


@over([row for row in ROWS if not row.call])
def test_compute_output_shape_agrees(row):
    shapes = jax.tree.map(lambda x: (None, *x.shape[1:]), row.data())
    assert built(row).compute_output_shape(*shapes) == jax.tree.map(lambda y: (None, *y.shape[1:]), outputs(row))


@over([row for row in ROWS if row.refused])
def test_a_wrong_rank_is_refused_and_changes_nothing(row):
    layer, shape = row.make(name="stem"), row.refused
    with pytest.raises(ValueError) as caught:
        layer(jnp.ones(shape))
    assert str(caught.value).startswith(f'{row.layer} "stem": ')
    assert str(shape) in str(caught.value)
    assert not layer.variables or not layer.weights
    call(row, layer)
    before = layer.get_weights()
    with pytest.raises(ValueError) as caught:
        layer(jnp.ones(shape))
    assert str(shape) in str(caught.value)
    if before:
        assert str(row.inputs) in str(caught.value)
    assert_equal(layer.get_weights(), before)


# Building and weights -----------------------------------------------------------------------------------------------


@every
def test_building_from_shapes_is_building_by_a_call(row):
    layer = row.make()
    count = len(inspect.signature(layer.build).parameters)  # the shapes of other arguments do not matter to it
    layer.build(*row.shapes()[:count])
    assert layer.built
    assert described(layer.weights) == described(built(row).weights)


@every
def test_build_configuration_builds_the_same_weights(row):
    layer = row.make()
    config = built(row).get_build_config()
    if config is not None:
        layer.build_from_config(json.loads(json.dumps(serialize(config))))
    assert described(layer.weights) == described(built(row).weights)


@every
def test_two_layers_share_no_weights(row):
    first, second = built(row), row.make()
    call(row, second)
    assert not {id(v) for v in first.variables} & {id(v) for v in second.variables}
    before = first.get_weights()
    second.set_weights([w + 1 for w in second.get_weights()])
    assert_equal(first.get_weights(), before)


@every
def test_weights_come_and_go_as_arrays(row):
    twin = twin_of(row, built(row))
    assert_equal(twin.get_weights(), built(row).get_weights())
    assert_equal(call(row, twin), outputs(row))
    with pytest.raises(ValueError, match="set_weights"):
        twin.set_weights([*twin.get_weights(), np.zeros(3)])


@every
def test_own_variables_come_back_from_a_store(row):
    layer, twin = built(row), row.make()
    call(row, twin)
    for one, other in zip(layer._flatten_layers(), twin._flatten_layers(), strict=True):
        store = {}
        one.save_own_variables(store)
        other.load_own_variables(store)
    assert_equal(twin.get_weights(), layer.get_weights())


@over([row for row in ROWS if row.layer != "Discretization"])  # which has no weights, and no such argument
def test_a_frozen_layer_has_no_trainable_variables(row):
    layer = row.make(trainable=False)
    call(row, layer)
    assert layer.trainable_variables == []
    assert shapes_of(layer.get_weights()) == shapes_of(built(row).get_weights())
    layer.trainable = True
    assert len(layer.trainable_variables) == len(built(row).trainable_variables)


# Calls --------------------------------------------------------------------------------------------------------------


@every
def test_inference_is_repeatable_and_takes_any_kind_of_array(row):
    assert_equal(call(row, built(row), jnp.asarray), outputs(row))
    assert_equal(call(row, built(row), np.asarray), outputs(row))
    assert_equal(call(row, built(row), lambda x: x.astype("int64" if row.below else "float64")), outputs(row))


# The others' samples are apart in training, too: see below.
@over([row for row in ROWS if row.layer in MEET or row.noisy or row.layer in CHANGED_BY_TRAINING])
def test_samples_do_not_see_one_another(row):
    one = built(row)(*jax.tree.map(lambda x: x[:1], row.data()), **row.call)
    assert_close(one, jax.tree.map(lambda x: x[:1], outputs(row)))


@every
def test_rows_that_fill_a_batch_up_change_nothing_where_rows_stay_apart(row):
    from_behind = row.layer == "Softmax" and row.arguments.get("axis") == (-1, -2)  # whose rank the layer cannot tell
    apart = row.layer not in MEET and not row.arguments.get("stateful") and not from_behind
    assert rows.layer_keeps_apart(built(row)) == apart
    if not apart:
        return
    count = jax.tree.leaves(arrays(row))[0].shape[0] - 1
    fn, state = lamina.functional(built(row))

    @jax.jit
    def both(state, args):
        short = fn(state, *jax.tree.map(lambda x: x[:count], args), **row.trained)
        with scope.rows(count):
            outputs, after = fn(state, *args, **row.trained)
        return short, (jax.tree.map(lambda x: x[:count], outputs), after)

    assert_close(*both(state, arrays(row)))


@every
def test_compiled_is_eager(row):
    fn, state = lamina.functional(built(row))
    compiled, after = jax.jit(lambda state, args: fn(state, *args, **row.call))(state, arrays(row))
    assert_close(compiled, outputs(row))
    assert_equal(after, state)


@over([row for row in ROWS if row.noisy or row.layer in CHANGED_BY_TRAINING])
def test_compiled_training_is_eager_training(row):
    layer = twin_of(row, built(row))
    fn, state = lamina.functional(layer)
    paths = list(state.non_trainable)  # in the layer's order; JAX sorts what comes back
    step = jax.jit(lambda state, args: fn(state, *args, **row.trained))
    for _ in range(2):
        compiled, state = step(state, arrays(row))
        assert_close(compiled, call(row, layer, training=True))
    assert_close([state.non_trainable[path] for path in paths], [v.value for v in layer.non_trainable_variables])


@over([row for row in ROWS if row.noisy])
def test_training_draws_anew_each_time_and_alike_for_a_seed(row):
    one, other = row.make(), row.make()
    call(row, one), call(row, other)
    other.set_weights(one.get_weights())
    drawn = [[call(row, layer, training=True) for _ in range(2)] for layer in (one, other)]
    assert_equal(*drawn)
    first, second = drawn[0]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, outputs(row))


in_halves = over([row for row in ROWS if not row.whole])


@in_halves
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_half_precision_has_the_dtypes_of_its_policy(row, policy):
    layer, compute = row.make(dtype=policy), policy.removeprefix("mixed_")
    inferred = layer(*row.symbolic(), **row.call)
    assert {x.dtype for x in jax.tree.leaves(inferred)} == {compute}
    floats = {v.dtype for v in layer.weights if lamina.backend.is_float_dtype(v.dtype)}
    assert floats <= {"float32" if "mixed" in policy else compute}


@over([row for row in ROWS if not (row.whole or row.jumps)])
@pytest.mark.parametrize(("policy", "tolerance"), [("float16", 0.01), ("mixed_bfloat16", 0.06)])
def test_half_precision_comes_near_the_full_one(row, policy, tolerance):
    fn, state = lamina.functional(twin_of(row, built(row), dtype=policy))
    result, _ = jax.jit(lambda state, args: fn(state, *args, **row.call))(state, arrays(row))
    assert_close(result, outputs(row), tolerance)


TAKES_ARRAYS = [row for row in ROWS if not row.below]


@over([row for row in TAKES_ARRAYS if row.layer != "Lambda"])  # whose function computes as it likes
@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_fractions_of_integers_are_those_of_the_same_floats(row, dtype):
    draw = np.random.default_rng(5)
    whole = jax.tree.map(lambda x: draw.integers(0, 256, x.shape).astype(dtype), row.data())
    ours = built(row)(*whole, **row.call)
    theirs = built(row)(*jax.tree.map(lambda x: x.astype("float32"), whole), **row.call)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if jnp.issubdtype(mine.dtype, jnp.floating):
            assert_close(mine, other)


@over([row for row in TAKES_ARRAYS if row.noisy or row.layer in CHANGED_BY_TRAINING])
def test_training_on_integers_is_training_on_the_same_floats(row):
    whole = jax.tree.map(lambda x: np.arange(x.size, dtype="uint8").reshape(x.shape), row.data())
    one, other = row.make(), row.make()
    call(row, one), call(row, other)
    other.set_weights(one.get_weights())
    floats = jax.tree.map(lambda x: x.astype("float32"), whole)
    ours, theirs = one(*whole, **row.trained), other(*floats, **row.trained)
    if jnp.issubdtype(jax.tree.leaves(ours)[0].dtype, jnp.floating):
        assert_close(ours, theirs)
    assert_close(one.get_weights(), other.get_weights())


@every
def test_gradients_are_finite(row):
    fn, state = lamina.functional(built(row))

    def loss(trainable, args):
        result, _ = fn(state._replace(trainable=trainable), *args, **row.call)
        draw = np.random.default_rng(7)
        return sum((x * draw.normal(size=x.shape)).sum() for x in jax.tree.leaves(result))

    wanted = (0,) if row.below else (0, 1)
    gradients = jax.jit(jax.grad(loss, wanted))(state.trainable, arrays(row))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    assert shapes_of(gradients[0]) == shapes_of(state.trainable)


@over([row for row in ROWS if row.mask])
def test_masks_pass_where_the_time_axis_is_kept_and_end_elsewhere(row):
    layer, args = built(row), arrays(row)
    masks = []
    for array in jax.tree.leaves(args):
        masks.append(jnp.arange(array.shape[1])[None, :] < jnp.arange(1, array.shape[0] + 1)[:, None])
        masking.set_mask(array, masks[-1])
    told = (
        contextlib.nullcontext() if layer.supports_masking else pytest.warns(UserWarning, match=f"{row.layer} .*mask")
    )
    with told:
        after = masking.get_mask(jax.tree.leaves(layer(*args, **row.call))[0])
    if row.mask == "passes":
        assert_equal(after, masks[0])
    else:
        assert after is None


@over([row for row in ROWS if row.free and not row.call])
def test_a_size_that_is_inferred_is_that_of_every_call(row):
    layer = row.make()
    inferred = [shape for shape, _ in shapes_of(layer(*row.symbolic(row.free)))]
    for more in (0, 1, 4):

        def longer(x, more=more):
            widths = [(0, 1 if axis == 0 else more if axis in row.free else 0) for axis in range(x.ndim)]
            return np.pad(x, widths)

        real = shapes_of(jax.eval_shape(layer, *jax.tree.map(longer, row.data())))
        for declared, (shape, _) in zip(inferred, real, strict=True):
            assert all(size in (None, known) for size, known in zip(declared, shape, strict=True))


def pickled(layer):
    return pickle.loads(pickle.dumps(layer))


@every
@pytest.mark.parametrize("clone", [copy.deepcopy, pickled])
def test_a_copy_computes_the_same_alone(row, clone):
    layer = twin_of(row, built(row))
    twin = clone(layer)
    assert_equal(call(row, twin), outputs(row))
    twin.set_weights([w + 1 for w in twin.get_weights()])
    assert_equal(layer.get_weights(), built(row).get_weights())


ONE_ARRAY = ["BatchNormalization", "Conv2D", "Dense", "Embedding", "Flatten", "GRU", "GroupNormalization", "LSTM",
             "LayerNormalization", "Masking", "MaxPooling2D", "PReLU", "Permute", "RMSNormalization", "Reshape",
             "UnitNormalization"]  # fmt: skip


@pytest.mark.parametrize("name", ONE_ARRAY)
@pytest.mark.parametrize("kind", [list, dict])
def test_a_layer_on_one_array_refuses_several(name, kind):
    row = next(row for row in ROWS if row.layer == name)
    (x,) = row.data()
    with pytest.raises(ValueError, match=rf'^{name} ".*": must get one array, got a {kind.__name__}'):
        row.make()([x, x] if kind is list else {"a": x})


@pytest.mark.parametrize("name", ONE_ARRAY)
@pytest.mark.parametrize(
    "given, said",
    [
        ("a", "must be an array, got 'a'"),
        (3.0, "must be an array, got 3.0"),
        (np.array([["a", "b"]]), r"must hold numbers, got str32\(1, 2\)"),
        (np.array(["2020-01-01"], "datetime64[D]"), r"must hold numbers, got datetime64\[D\]\(1,\)"),
    ],
)
def test_a_layer_on_one_array_refuses_what_is_no_numbers(name, given, said):
    layer = next(row for row in ROWS if row.layer == name).make()
    with pytest.raises(ValueError, match=rf'^{name} ".*": the input {said}\.$'):
        layer(given)
