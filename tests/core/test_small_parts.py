"""Scopes, names, masks, trees, dtypes and the registry."""

import gc
import threading

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import lamina
from lamina.core import dtypes, masking, policy, registry, scope, tree

# Scopes and names


def test_a_scope_holds_below_it_and_ends_with_an_error():
    with pytest.raises(RuntimeError, match="on purpose"), scope.names(("a",)):
        assert scope.current_path() == "a"
        raise RuntimeError("on purpose")
    assert scope.current_path() == ""


def test_threads_do_not_see_each_others_scopes():
    seen = []
    with scope.names(("a",)):
        thread = threading.Thread(target=lambda: seen.append(scope.current_path()))
        thread.start()
        thread.join()
    assert seen == [""]


@pytest.mark.parametrize(
    "opens, now",
    [
        (lamina.SymbolicScope(), scope.symbolic.get),
        (lamina.RematScope(), scope.remat.get),
        (lamina.saving.CustomObjectScope({"Own": int}), lambda: lamina.saving.get_registered_object("Own")),
    ],
)
def test_what_has_a_scope_may_be_entered_inside_itself(opens, now):
    before = now()
    with opens:
        inside = now()
        assert inside != before
        with opens:
            assert now() == inside
        assert now() == inside
    assert now() == before


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("Dense", "dense"),
        ("Conv2D", "conv2d"),
        ("MultiHeadAttention", "multi_head_attention"),
        ("LSTM", "lstm"),
        ("GRUCell", "gru_cell"),
        ("GlobalAveragePooling1D", "global_average_pooling1d"),
        ("ReLU", "re_lu"),
        ("MyNet", "my_net"),
    ],
)
def test_names_of_layers(name, snake):
    assert scope.snake_case(name) == snake


def test_automatic_names_are_counted_anew_after_clear_session():
    lamina.backend.clear_session()
    assert [lamina.layers.Dense(1).name for _ in range(3)] == ["dense", "dense_1", "dense_2"]
    lamina.backend.clear_session()
    assert lamina.layers.Dense(1).name == "dense"


# Masks


def test_a_mask_rides_on_its_array_alone():
    x, mask = jnp.ones((2, 3)), jnp.array([[True, False, True]] * 2)
    masking.set_mask(x, mask)
    assert masking.get_mask(x) is mask and masking.get_mask(x + 0) is None
    masking.set_mask(x, None)
    assert masking.get_mask(x) is None


def test_a_mask_dies_with_its_array():
    x = jnp.ones((2, 3)) * 5
    masking.set_mask(x, jnp.ones((2, 3), bool))
    gc.collect()
    count = len(masking._masks)
    del x
    gc.collect()
    assert len(masking._masks) == count - 1


def test_an_array_may_die_after_the_module(monkeypatch):
    x = jnp.ones((2, 3)) * 7
    masking.set_mask(x, jnp.ones((2, 3), bool))
    gc.collect()
    count = len(masking._masks)
    monkeypatch.setattr(masking, "_forget", None)  # as the interpreter leaves it at its end
    del x
    gc.collect()
    assert len(masking._masks) == count - 1


def test_masks_are_merged_and_passed_on_where_they_fit():
    a, b = jnp.zeros((2, 3, 4)), jnp.ones((2, 3, 4))
    masking.set_mask(a, jnp.array([[True, True, False]] * 2))
    masking.set_mask(b, jnp.array([[True, False, False]] * 2))
    total, rows = lamina.ops.add(a, b), lamina.ops.sum(a, axis=1)
    np.testing.assert_array_equal(np.asarray(masking.get_mask(total)), [[True, False, False]] * 2)
    assert masking.get_mask(rows) is None


# Trees


STRUCTURE = {"b": [1, (2, None)], "a": 3}


def test_leaves_go_by_sorted_keys_and_none_is_one():
    assert tree.flatten(STRUCTURE) == [3, 1, 2, None]
    assert tree.flatten_with_path(STRUCTURE)[3] == (("b", 1, 1), None)
    assert tree.pack_sequence_as(STRUCTURE, "wxyz") == {"a": "w", "b": ["x", ("y", "z")]}


def test_map_structure():
    assert tree.map_structure(lambda a, b: (a, b), [1, {"x": 2}], [3, {"x": 4}]) == [(1, 3), {"x": (2, 4)}]
    with pytest.raises(ValueError, match="structures must be alike"):
        tree.map_structure(lambda a, b: a, [1, 2], [1])


def test_map_structure_up_to():
    assert tree.map_structure_up_to({"a": 0, "b": 0}, len, {"a": [1, 2], "b": [3]}) == {"a": 2, "b": 1}


def test_assertions_on_structures():
    tree.assert_same_structure([1, {"a": 2}], [3, {"a": 4}])
    with pytest.raises(ValueError, match="assert_same_structure"):
        tree.assert_same_structure([1], (1,))
    tree.assert_same_paths([1, 2], (1, 2))
    with pytest.raises(ValueError, match="assert_same_paths"):
        tree.assert_same_paths([1, 2], [1])


def test_traverse_replaces_nodes():
    assert tree.traverse(lambda x: x + 1 if isinstance(x, int) else None, [1, {"a": 2}]) == [2, {"a": 3}]
    assert tree.traverse(lambda x: tree.MAP_TO_NONE if x == 1 else None, [1, 2]) == [None, 2]
    assert tree.lists_to_tuples([1, [2, {"a": [3]}]]) == (1, (2, {"a": (3,)}))


# Dtypes


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "float32"),
        ("bfloat16", "bfloat16"),
        (float, "float32"),
        (int, "int32"),
        (bool, "bool"),
        (np.float64, "float64"),
        (np.dtype("int8"), "int8"),
        (jnp.bfloat16, "bfloat16"),
        (torch.float16, "float16"),
        ("int", "int32"),
    ],
)
def test_names_of_dtypes(given, name):
    assert dtypes.standardize_dtype(given) == name


@pytest.mark.parametrize("given", ["float33", "object", 3, [1]])
def test_unknown_dtypes_are_refused(given):
    with pytest.raises((ValueError, TypeError)):
        dtypes.standardize_dtype(given)


@pytest.mark.parametrize(
    ("name", "compute", "variable"),
    [
        ("float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("mixed_float16", "float16", "float32"),
        ("mixed_bfloat16", "bfloat16", "float32"),
    ],
)
def test_policies(name, compute, variable):
    made = policy.DTypePolicy(name)
    assert (made.compute_dtype, made.variable_dtype) == (compute, variable)
    assert policy.get_policy(lamina.dtype_policies.serialize(made)) == made == policy.get_policy(name)
    layer = lamina.layers.Dense(2, dtype=name)
    assert layer(np.ones((1, 3))).dtype == compute and layer.kernel.dtype == variable


@pytest.mark.parametrize("default", ["mixed_bfloat16", "int8_from_mixed_bfloat16"])
def test_a_policy_without_a_name_is_the_default_one(default, monkeypatch):
    monkeypatch.setattr(policy, "_chosen", [policy.get_policy(default)])
    assert policy.DTypePolicy() == policy.FloatDTypePolicy() == policy.DTypePolicy("mixed_bfloat16")
    assert policy.QuantizedDTypePolicy("int8").name == "int8_from_mixed_bfloat16"


def test_policies_have_what_programs_read():
    assert [policy.get_policy(f"{mode}_from_float32").mode for mode in ("gptq/4/8", "awq/4/8", "int4/8")] == [
        "gptq", "awq", "int4",
    ]  # fmt: skip
    assert policy.QuantizedFloat8DTypePolicy.default_amax_history_length == 1024
    saved = {"class_name": "FloatDTypePolicy", "config": {"name": "mixed_float16"}, "module": "keras"}
    assert policy.get_policy(saved) == policy.DTypePolicy("mixed_float16")


@pytest.mark.parametrize("name", ["", "int8_from_"])
def test_a_policy_has_a_name(name):
    with pytest.raises(ValueError, match=r"DTypePolicy: name must be a dtype, .* got ''"):
        policy.get_policy(name)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="DTypePolicy: name must be a dtype, 'mixed_float16' or 'mixed_bfloat16', got"):
        lamina.layers.Dense(2, dtype="mixed_float8")


def test_the_default_float_dtype_is_that_of_new_layers():
    lamina.config.set_floatx("float16")
    try:
        assert lamina.layers.Dense(2)(np.ones((1, 3))).dtype == "float16"
    finally:
        lamina.config.set_floatx("float32")
    assert lamina.layers.Dense(2)(np.ones((1, 3))).dtype == "float32"
    with pytest.raises(ValueError, match="set_floatx: value must be one of"):
        lamina.config.set_floatx("int32")


# Names of classes and functions


@pytest.mark.parametrize("name", ["Adam", "adam", "ADAM", "rmsprop", "RMSprop", "loss_scale_optimizer"])
def test_a_name_is_found_in_any_case(name):
    assert registry.find("optimizers", name, "optimizer").__name__.lower() == name.lower().replace("_", "")


def test_a_registered_name_goes_before_a_public_one():
    @lamina.saving.register_keras_serializable()
    def twice(x):
        return 2 * x

    assert lamina.activations.get("twice") is twice
    with lamina.utils.CustomObjectScope({"relu": twice}):
        assert lamina.activations.get("relu") is twice
    assert lamina.activations.get("relu") is lamina.activations.relu


def test_the_nearest_name_is_told():
    with pytest.raises(ValueError, match=r"layer 'Dens': must be a name in lamina.layers.*Did you mean 'Dense'\?"):
        registry.find("layers", "Dens", "layer")
    with pytest.raises(ValueError, match=r"custom_objects\.$"):
        registry.find("layers", "qqqqqqqq", "layer")


def test_a_class_that_is_registered_needs_a_configuration():
    with pytest.raises(ValueError, match="register_keras_serializable: Plain must have a get_config method"):

        @lamina.saving.register_keras_serializable()
        class Plain:
            pass
