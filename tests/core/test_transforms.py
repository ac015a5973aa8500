"""JAX transforms of code that reads and writes variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina

X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def test_value_and_grad_of_variables(weight, counter):
    def loss(x):
        counter.assign_add(1.0)
        return ((x * weight) ** 2).sum()

    value, (gradient,) = lamina.value_and_grad(loss, [weight])(X)
    np.testing.assert_allclose(float(value), ((X * np.arange(3.0)) ** 2).sum(), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(gradient), 2 * np.arange(3.0) * (X**2).sum(0), rtol=1e-5)
    assert float(counter.value) == 1
    np.testing.assert_allclose(np.asarray(lamina.grad(loss, [weight])(X)[0]), np.asarray(gradient), rtol=1e-6)


def test_what_comes_with_the_value(weight):
    def loss(x):
        return (x * weight).sum(), {"rows": len(x)}

    (value, aux), gradients = lamina.value_and_grad(loss, [weight], has_aux=True)(X)
    assert aux == {"rows": 5} and len(gradients) == 1 and value.shape == ()
    gradients, aux = lamina.grad(loss, [weight], has_aux=True)(X)
    assert aux == {"rows": 5}


def test_a_layer_stands_for_its_trainable_variables():
    layer = lamina.layers.Dense(2)
    layer(X)
    _, gradients = lamina.value_and_grad(lambda: lamina.ops.sum(layer(X)), layer)()
    assert [g.shape for g in gradients] == [(3, 2), (2,)]
    layer.trainable = False
    assert lamina.value_and_grad(lambda: lamina.ops.sum(layer(X)), layer)()[1] == []


def test_gradients_of_gradients(weight):
    def slope():
        return lamina.grad(lambda: (weight**3).sum(), [weight])()[0].sum()

    (second,) = lamina.grad(slope, [weight])()
    np.testing.assert_allclose(np.asarray(second), 6 * np.arange(3.0), rtol=1e-5)


def test_value_and_grad_needs_variables():
    with pytest.raises(TypeError, match="value_and_grad: must be given a function and the variables"):
        lamina.value_and_grad(lambda: 1.0)


def test_vmap_reads_variables_and_keeps_what_is_the_same_for_all(weight, counter):
    def row(x):
        counter.assign_add(1.0)
        return (x * weight).sum()

    np.testing.assert_allclose(np.asarray(lamina.vmap(row)(X)), (X * np.arange(3.0)).sum(1), rtol=1e-5)
    assert float(counter.value) == 1


def test_scan_carries_what_is_assigned(counter):
    def step(carry, x):
        counter.assign_add(x)
        return carry * 2, counter.value

    carry, seen = lamina.scan(step, jnp.float32(1), jnp.arange(4.0))
    assert float(carry) == 16 and float(counter.value) == 6
    np.testing.assert_allclose(np.asarray(seen), [0, 1, 3, 6])


def test_scan_over_a_number_of_steps(counter):
    def step(carry, _):
        counter.assign_add(1.0)
        return carry + 1, None

    carry, _ = lamina.scan(step, 0, None, length=5)
    assert int(carry) == 5 and float(counter.value) == 5


def test_remat_computes_the_same(weight, counter):
    def loss(x):
        counter.assign_add(1.0)
        return jnp.sin(x * weight).sum()

    plain = lamina.value_and_grad(loss, [weight])(X)
    again = lamina.value_and_grad(lamina.remat(loss), [weight])(X)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(again)):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5)
    assert float(counter.value) == 2


# functional


def stack():
    model = lamina.Sequential(
        [lamina.Input((3,)), lamina.layers.Dense(4), lamina.layers.BatchNormalization(), lamina.layers.Dropout(0.5)]
    )
    return model


def test_functional_is_pure():
    model = stack()
    fn, state = lamina.functional(model)
    before = model.get_weights()
    outputs, after = jax.jit(lambda s, x: fn(s, x, training=True))(state, X)
    assert outputs.shape == (5, 4)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    moved = [path for path in state.non_trainable if np.any(state.non_trainable[path] != after.non_trainable[path])]
    assert len(moved) == 3  # both statistics and the seed
    np.testing.assert_array_equal(np.asarray(fn(state, X)[0]), np.asarray(model(X)))


def test_functional_under_any_transform():
    fn, state = lamina.functional(stack())

    def loss(trainable, x):
        return fn(state._replace(trainable=trainable), x)[0].sum()

    gradients = jax.vmap(jax.grad(loss), in_axes=(None, 0))(state.trainable, X[:, None])
    assert gradients["dense/kernel" if "dense/kernel" in gradients else next(iter(gradients))].shape[0] == 5


def test_functional_trains_an_ensemble():
    """States side by side under vmap: each member moves as it would alone."""
    model = stack()
    fn, state = lamina.functional(model)
    two = jax.tree.map(lambda a: jnp.stack([a, a + 1]), state)

    def step(state, x):
        def loss(trainable):
            outputs, new = fn(state._replace(trainable=trainable), x, training=True)
            return (outputs**2).sum(), new

        gradients, new = jax.grad(loss, has_aux=True)(state.trainable)
        return jax.tree.map(lambda w, g: w - 0.1 * g, state.trainable, gradients), new.non_trainable

    before = model.get_weights()
    together = jax.jit(jax.vmap(step, in_axes=(0, None)))(two, X)
    for i in range(2):
        alone = step(jax.tree.map(lambda a, i=i: a[i], two), X)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(np.asarray(a[i]), np.asarray(b), rtol=1e-4, atol=1e-5)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_functional_checks_its_state():
    fn, state = lamina.functional(stack())
    with pytest.raises(ValueError, match="state must have the layer's variables, differs in"):
        fn(state._replace(trainable={}), X)
    with pytest.raises(ValueError, match='functional: layer "fresh" must be built first'):
        lamina.functional(lamina.layers.Dense(2, name="fresh"))


def test_functional_refuses_variables_that_are_not_its_own(counter):
    class Counts(lamina.layers.Layer):
        def call(self, x):
            counter.assign_add(1.0)
            return x

    layer = Counts(name="counts")
    layer.build((None, 3))
    fn, state = lamina.functional(layer)
    with pytest.raises(ValueError, match='functional "counts": must assign its own variables only, assigned counter'):
        fn(state, X)


def test_two_layers_of_one_name_have_two_entries():
    class Twins(lamina.layers.Layer):
        def __init__(self):
            super().__init__(name="twins")
            self.a, self.b = lamina.layers.Dense(2, name="d"), lamina.layers.Dense(2, name="d")

        def call(self, x):
            return self.a(x) + self.b(x)

    layer = Twins()
    layer(X)
    _, state = lamina.functional(layer)
    assert len(state.trainable) == 4
