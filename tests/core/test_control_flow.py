"""State inside control flow: what layers, metrics and programs assign there is what a plain loop of Python assigns."""

import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers, metrics, ops, random
from lamina.core.variable import Variable

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


# What the bodies do: a maker gives `use(x) -> y` of the same shape, and the variables.


def dropout():
    layer = layers.Dropout(0.5, seed=7)
    return lambda x: layer(x, training=True) + 0.1, layer.non_trainable_variables


def normalization():
    layer = layers.BatchNormalization(momentum=0.5)
    layer.build(X.shape)
    return lambda x: 2 * layer(x, training=True) + 1, layer.variables


def metric():
    mean = metrics.Mean()

    def use(x):
        mean.update_state(x)
        return x + mean.result()

    return use, mean.variables


def counter():
    total = Variable(0.0, trainable=False, name="total")

    def use(x):
        total.assign_add(ops.sum(ops.abs(x)))
        return x * 0.5 + total

    return use, [total]


def draws():
    generator = random.SeedGenerator(3)
    return lambda x: x + random.uniform(X.shape, seed=generator), [generator.state]


KINDS = [dropout, normalization, metric, counter, draws]


def as_loop(use, x, steps=3):
    for _ in range(steps):
        x = use(x)
    return x


def scanned(use, x):
    xs = ops.arange(3.0)
    carry, ys = ops.scan(lambda c, i: (use(c + i), ops.sum(c)), x, xs)
    return carry + ops.sum(ys)


def scanned_plainly(use, x):
    total = 0.0
    for i in range(3):
        total, x = total + ops.sum(x), use(x + i)
    return x + total


# (in control flow, in plain Python)
FORMS = {
    "cond": (lambda use, x: ops.cond(ops.sum(x) > -1e9, lambda: use(x), lambda: x), lambda use, x: use(x)),
    "cond not taken": (lambda use, x: ops.cond(ops.sum(x) > 1e9, lambda: use(x), lambda: x), lambda use, x: x),
    "switch": (
        lambda use, x: ops.switch(ops.argmax(ops.stack([0.0, 1.0, ops.sum(x) - 1e9])), [lambda t: t, use, use], x),
        lambda use, x: use(x),
    ),
    "while_loop": (lambda use, x: ops.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, use(t)), (0, x))[1], as_loop),
    "fori_loop": (lambda use, x: ops.fori_loop(0, 3, lambda i, t: use(t), x), as_loop),
    "scan": (scanned, scanned_plainly),
    "map": (lambda use, x: ops.sum(ops.map(use, ops.stack([x, 2 * x])), axis=0), lambda use, x: use(x) + use(2 * x)),
    "nested": (
        lambda use, x: ops.fori_loop(0, 2, lambda i, t: ops.cond(i > 0, lambda: use(t), lambda: t + 1), x),
        lambda use, x: use(x + 1),
    ),
}


class Steps(lamina.Model):
    """Runs a function as its step of training."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def train_step(self, data):
        return {"out": self.fn(data)}


def in_fit(fn, x):
    model = Steps(fn)
    model.compile()
    seen = []
    callback = lamina.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["out"]))
    model.fit(x, batch_size=4, shuffle=False, verbose=0, callbacks=[callback])
    return seen[-1]


def in_value_and_grad(fn, x):
    scale = Variable(np.ones((), "float32"))

    def loss():
        out = fn(x)
        return scale * 2, out

    (_, out), gradients = lamina.value_and_grad(loss, [scale], has_aux=True)()
    assert float(gradients[0]) == 2
    return out


CONTEXTS = {
    "eager": lambda fn, x: fn(x),
    "jit": lambda fn, x: lamina.jit(fn)(x),
    "value_and_grad": in_value_and_grad,
    "fit": in_fit,
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_state_in_control_flow_is_that_of_a_plain_loop(kind, form, context):
    controlled, plain = FORMS[form]
    use, variables = kind()
    expected = plain(use, jnp.asarray(X))
    use, mine = kind()
    reduced = (lambda y: ops.sum(y)) if context == "fit" else lambda y: y
    out = CONTEXTS[context](lambda x: reduced(controlled(use, x)), jnp.asarray(X))
    np.testing.assert_allclose(np.asarray(out), np.asarray(reduced(expected)), rtol=1e-4, atol=1e-5)
    for variable, other in zip(mine, variables, strict=True):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "while_loop"])
def test_gradients_pass_through_state_in_control_flow(form):
    weight = Variable(np.float32(0.5))

    def gradient(fn):
        use, _ = normalization()
        return lamina.value_and_grad(lambda: ops.sum(fn(use, X * weight) ** 2), [weight])()

    ours, expected = (gradient(fn) for fn in FORMS[form])
    np.testing.assert_allclose(np.asarray(ours[0]), np.asarray(expected[0]), rtol=1e-4)
    np.testing.assert_allclose(np.asarray(ours[1][0]), np.asarray(expected[1][0]), rtol=1e-3, atol=1e-4)


def test_variables_are_read_anew_in_loops_of_one_function():
    weight = Variable(1.0)

    def step(carry, x):
        return carry + x * weight, None

    first, _ = ops.scan(step, jnp.zeros(()), jnp.ones(3))
    weight.assign(10.0)
    second, _ = ops.scan(step, jnp.zeros(()), jnp.ones(3))
    assert (float(first), float(second)) == (3, 30)


def test_a_condition_may_draw():
    def tries(loop):
        generator = random.SeedGenerator(5)
        return loop(lambda i: random.uniform((), seed=generator) < 0.9, lambda i: i + 1, 0), generator.state.numpy()

    def plainly(cond, body, value):
        while cond(value):
            value = body(value)
        return value

    (ours, state), (expected, plain) = tries(ops.while_loop), tries(plainly)
    assert int(ours) == expected > 0
    np.testing.assert_array_equal(state, plain)


# Building


def test_layers_build_themselves_in_both_branches():
    class Either(layers.Layer):
        def __init__(self):
            super().__init__()
            self.one, self.other = layers.Dense(3), layers.Dense(3)

        def call(self, x):
            return ops.cond(ops.sum(x) > 0, lambda: self.one(x), lambda: self.other(x))

    for run in (lambda layer: layer(np.ones((2, 3))), lambda layer: lamina.jit(layer)(jnp.ones((2, 3)))):
        layer = Either()
        out = run(layer)
        assert len(layer.weights) == 4 and all(np.isfinite(v.numpy()).all() for v in layer.weights)
        np.testing.assert_allclose(np.asarray(out), np.asarray(layer.one(np.ones((2, 3)))), rtol=1e-5)


@pytest.mark.parametrize("form", ["fori_loop", "map"])
def test_layers_build_themselves_in_loops(form):
    layer = layers.Dense(3)
    FORMS[form][0](layer, jnp.ones((2, 3)))
    assert layer.built and np.isfinite(layer.kernel.numpy()).all()


# Losses that layers add


@pytest.mark.parametrize("context", ["eager", "jit", "fit"])
@pytest.mark.parametrize("form", ["cond", "cond not taken", "switch", "while_loop", "fori_loop", "map"])
def test_losses_that_are_added_in_control_flow_arrive(form, context):
    class Adds(layers.Layer):
        def call(self, x):
            self.add_loss(ops.mean(x**2))
            return x * 0.5

    class Around(layers.Layer):
        def __init__(self, fn):
            super().__init__()
            self.inner, self.fn = Adds(), fn

        def call(self, x):
            return self.fn(self.inner, x)

    def total(fn):
        layer = Around(fn)
        return lambda x: ops.sum(layer(x)) * 0 + sum(layer.losses, start=0.0)

    controlled, plain = FORMS[form]
    expected = total(plain)(jnp.asarray(X))
    out = CONTEXTS[context](total(controlled), jnp.asarray(X))
    np.testing.assert_allclose(float(out), float(expected), rtol=1e-5)


def test_losses_of_a_rematerialized_layer_arrive():
    layer = layers.Dense(3, activity_regularizer="l2")
    layer.build((None, 3))
    plain = layer(X), layer.losses[0]
    again = lamina.jit(lambda x: (lamina.remat(layer)(x), sum(layer.losses)))(X)
    np.testing.assert_allclose(float(again[1]), float(plain[1]), rtol=1e-5)


# All at once


def test_each_part_of_a_vmap_draws_its_own_mask():
    layer = layers.Dropout(0.5, seed=1)
    for mapped in (lamina.vmap, lambda fn: lambda x: ops.vectorized_map(fn, x)):
        before = layer.seed_generator.state.numpy()
        masks = np.asarray(mapped(lambda x: layer(x, training=True))(jnp.ones((6, 32)))) > 0
        assert len({mask.tobytes() for mask in masks}) == 6
        np.testing.assert_array_equal(layer.seed_generator.state.numpy() - before, [0, 1])


@pytest.mark.parametrize("context", ["jit", "fit", "value_and_grad"])
def test_draws_of_a_vmap_are_the_same_in_any_context(context):
    def draw(x):
        generator = random.SeedGenerator(3)
        return lambda x: ops.sum(ops.vectorized_map(lambda r: r * random.uniform((3,), seed=generator), x) ** 3)

    expected = draw(X)(jnp.asarray(X))
    np.testing.assert_allclose(float(CONTEXTS[context](draw(X), jnp.asarray(X))), float(expected), rtol=1e-5)


def test_draws_of_nested_vmaps_differ():
    generator = random.SeedGenerator(3)
    inner = lambda row: lamina.vmap(lambda x: random.uniform((), seed=generator))(row)  # noqa: E731
    assert len(np.unique(np.asarray(lamina.vmap(inner)(jnp.ones((4, 5)))))) == 20


def test_a_compiled_function_in_a_vmap_draws_as_it_does_outside():
    generator = random.SeedGenerator(3)
    compiled = lamina.jit(lambda x: x * random.uniform((), seed=generator))
    alone = float(compiled(1.0))
    assert len(np.unique(np.asarray(lamina.vmap(compiled)(jnp.ones(5))))) == 5
    generator.state.assign([3, 0])
    assert float(compiled(1.0)) == alone


def test_a_layer_builds_itself_in_a_vmap():
    layer = layers.Dense(2, kernel_initializer=lamina.initializers.GlorotUniform(seed=random.SeedGenerator(1)))
    assert lamina.vmap(layer)(jnp.ones((5, 1, 3))).shape == (5, 1, 2)
    assert layer.kernel.shape == (3, 2)


def test_what_a_vmap_assigns_must_be_the_same_for_all():
    layer, count = layers.BatchNormalization(name="norm"), Variable(0.0, name="count")
    layer.build((None, 3))

    def row(x):
        count.assign_add(1.0)
        return layer(x, training=True)

    with pytest.raises(ValueError, match=r"vmap: what is assigned must be the same for all parts, .*norm/moving_mean"):
        ops.vectorized_map(row, X[:, None])
    assert float(count) == 0
    with pytest.raises(ValueError, match=r"axis|size"):  # other mistakes say what they are
        lamina.vmap(lambda a, b: count.assign(1.0))(jnp.ones(3), jnp.ones(4))


@pytest.mark.parametrize("context", ["eager", "jit", "fit"])
def test_an_associative_scan_reads_variables_and_assigns_none(context):
    scale = Variable(np.float32(2.0), name="scale")

    def products(x):
        return ops.sum(ops.associative_scan(lambda a, b: a * b / scale, x) ** 2)

    np.testing.assert_allclose(float(CONTEXTS[context](products, jnp.asarray(X))), float(products(X)), rtol=1e-5)

    def assigns(a, b):
        scale.assign(3.0)
        return a + b

    with pytest.raises(ValueError, match=r"associative_scan: f must not assign or add losses.* got scale"):
        CONTEXTS[context](lambda x: ops.sum(ops.associative_scan(assigns, x)), jnp.asarray(X))
    assert float(scale) == 2


# Mistakes


def test_branches_that_differ_say_so():
    with pytest.raises(ValueError, match="cond: branches must return the same shapes and dtypes, got"):
        ops.cond(jnp.array(True), lambda: jnp.ones(3), lambda: jnp.ones(2))
    with pytest.raises(ValueError, match="switch: branches must return the same shapes and dtypes, got"):
        ops.switch(0, [lambda: 1, lambda: 2.0])
    with pytest.raises(ValueError, match=r"cond: pred must be a scalar, got shape \(2,\)"):
        ops.cond(jnp.ones(2), lambda: 1, lambda: 2)


def test_a_branch_that_assigns_another_shape_says_so_and_changes_nothing():
    variable, count = Variable(np.zeros(2), name="pair"), Variable(0.0)

    def branch():
        count.assign_add(1.0)
        variable.assign(jnp.ones(3))
        return 1.0

    with pytest.raises(ValueError, match=r'Variable "pair": value must have shape \(2,\), got \(3,\)'):
        ops.cond(jnp.array(True), branch, lambda: 2.0)
    assert float(count) == 0


def test_a_branch_may_return_a_variable_that_it_assigned():
    variable = Variable(1.0)

    def branch():
        variable.assign_add(1.0)
        return variable

    assert float(lamina.jit(lambda p: ops.cond(p, branch, lambda: 0.0))(True)) == 2 == float(variable)


# Graphs of symbolic tensors


def chosen_model():
    inputs = lamina.Input((3,))
    x = layers.Dense(3, name="first")(inputs)
    x = ops.cond(ops.sum(inputs) > 0, lambda: layers.Dense(3, name="taken")(x), lambda: -x)
    outputs = ops.switch(ops.cast(ops.sum(inputs), "int32"), [lambda t: t, lambda t: t + 1, lambda t: t * inputs], x)
    return lamina.Model(inputs, outputs)


@pytest.mark.parametrize("value, index", [(-1.0, 0), (0.17, 1), (5.0, 2)])
def test_cond_and_switch_stand_in_graphs(value, index):
    model, x = chosen_model(), np.full((2, 3), value, "float32")
    assert model.output_shape == (None, 3) and len(model.weights) == 4
    h = model.get_layer("first")(x)
    h = model.get_layer("taken")(h) if value > 0 else -h
    expected = [h, h + 1, h * x][index]
    np.testing.assert_allclose(np.asarray(model(x)), np.asarray(expected), rtol=1e-5)


def test_cond_and_switch_in_graphs_are_saved(tmp_path):
    model = chosen_model()
    model.save(tmp_path / "chosen.keras")
    again = lamina.saving.load_model(tmp_path / "chosen.keras")
    for value in (-1.0, 0.17, 5.0):
        x = np.full((2, 3), value, "float32")
        np.testing.assert_allclose(np.asarray(again(x)), np.asarray(model(x)), rtol=1e-6)


def test_a_call_of_cond_that_a_file_holds_runs():
    """Keras records the call itself where no branch uses a symbolic tensor."""
    inputs = lamina.Input((2,))
    call = ops.cond.from_config({"name": "choice"})
    model = lamina.Model(inputs, call(ops.sum(inputs) > 0, lambda: jnp.ones(2), lambda: jnp.zeros(2)))
    assert [np.asarray(model(np.full((1, 2), x)))[0] for x in (1.0, -1.0)] == [1, 0]


def test_cond_in_a_graph_checks_its_branches():
    x = lamina.Input((3,))
    with pytest.raises(ValueError, match="cond: branches must return the same shapes and dtypes"):
        ops.cond(ops.sum(x) > 0, lambda: x, lambda: ops.sum(x))
    with pytest.raises(ValueError, match=r"cond: what chooses must be a scalar, got shape \(None, 3\)"):
        ops.cond(x > 0, lambda: x, lambda: -x)


def test_loops_stand_in_graphs_and_in_files_with_the_names_of_their_functions(tmp_path):
    count = Variable(0.0, trainable=False)

    def step(x):
        count.assign_add(1.0)
        return x * 2

    inputs = lamina.Input((3,))
    model = lamina.Model(inputs, ops.while_loop(lambda x: ops.sum(x) < 10, step, inputs))
    assert float(count) == 0 and model.output_shape == (None, 3)
    np.testing.assert_allclose(np.asarray(model(np.ones((1, 3)))), np.full((1, 3), 4.0))
    assert float(count) == 2
    with pytest.warns(UserWarning, match="open it with custom_objects={'while_loop': function}"):
        model.save(tmp_path / "loop.keras")
    functions = {"while_loop": lambda x: ops.sum(x) < 10, "step": step}
    again = lamina.models.load_model(tmp_path / "loop.keras", custom_objects=functions)
    np.testing.assert_allclose(np.asarray(again(np.ones((1, 3)))), np.full((1, 3), 4.0))


def test_cond_on_a_number_of_python_is_an_if():
    x = lamina.Input((3,))
    assert ops.cond(True, lambda: x * 2, lambda: x).shape == (None, 3)
