"""`lamina.jit`: variables go in and out, arguments keep their places, methods their instances."""

import copy
import gc
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina
from lamina import layers, ops
from lamina.core.variable import Variable

X = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")


def test_jit_reads_and_writes_variables(counter, weight):
    traces = []

    @lamina.jit
    def step(x):
        traces.append(1)
        counter.assign_add(1.0)
        return (x * weight).sum()

    values = [float(step(X)) for _ in range(3)]
    assert float(counter.value) == 3
    np.testing.assert_allclose(values, (X * np.arange(3.0)).sum(), rtol=1e-5)
    weight.assign(np.zeros(3))
    assert float(step(X)) == 0 and len(traces) <= 3


def test_jit_passes_arguments_and_options(weight):
    @lamina.jit(static_argnames=("power",))
    def powered(x, *, power):
        assert isinstance(power, int)
        return (x * weight) ** power

    np.testing.assert_allclose(np.asarray(powered(X, power=2)), (X * np.arange(3.0)) ** 2, rtol=1e-5)
    by_number = lamina.jit(lambda n, x: x * n, static_argnums=0)
    np.testing.assert_allclose(np.asarray(by_number(3, X)), 3 * X, rtol=1e-6)
    from_the_end = lamina.jit(lambda x, n: x * n, static_argnums=-1)
    np.testing.assert_allclose(np.asarray(from_the_end(X, 3)), 3 * X, rtol=1e-6)


def test_jit_that_fails_assigns_nothing(counter):
    @lamina.jit
    def step(x):
        counter.assign_add(1.0)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        step(X)
    assert float(counter.value) == 0


def test_jit_inside_jit(counter):
    inner = lamina.jit(lambda: counter.assign_add(1.0))
    outer = lamina.jit(lambda: inner() + inner())
    assert float(outer()) == 3 and float(counter.value) == 2


# Arguments


def scaled(x, factor, power=1):
    """For arguments by position and name: `factor` and `power` must be of Python where they are static."""
    return x * factor**power


@pytest.mark.parametrize(
    "options",
    [
        {"static_argnums": (1, 2)},
        {"static_argnums": (-2, -1)},
        {"static_argnames": ("factor", "power")},
        {"static_argnums": 1, "static_argnames": "power"},
    ],
)
def test_static_arguments_are_named_or_numbered(options, weight):
    def fn(x, factor, power=1):
        assert isinstance(factor, int) and isinstance(power, int)
        return scaled(x, factor, power) + weight

    compiled = lamina.jit(fn, **options)
    expected = X * 9 + np.arange(3.0)
    for args, kwargs in (((3, 2), {}), ((3,), {"power": 2}), ((), {"factor": 3, "power": 2}), ((9,), {})):
        np.testing.assert_allclose(np.asarray(compiled(X, *args, **kwargs)), expected, rtol=1e-5)


def test_each_static_value_has_variables_of_its_own(counter, weight):
    variables = {"counter": counter, "weight": weight}

    @lamina.jit(static_argnames="name")
    def add(name):
        variables[name].assign_add(1.0)

    for name in ("counter", "weight", "counter"):
        add(name)
    assert float(counter) == 2
    np.testing.assert_array_equal(weight.numpy(), [1, 2, 3])


def test_static_values_of_different_types_are_different():
    compiled = lamina.jit(lambda n: jnp.asarray(n), static_argnums=0)
    assert [compiled(n).dtype.name for n in (1, 1.0, True)] == ["int32", "float32", "bool"]


@pytest.mark.parametrize("options", [{"donate_argnums": 0}, {"donate_argnames": "x"}, {"donate_argnums": (-2,)}])
@pytest.mark.parametrize("named", [False, True])
def test_only_the_named_arguments_are_donated(options, named, weight):
    compiled = lamina.jit(lambda x, y: x + y * weight, **options)
    x, y = jnp.ones(3), jnp.ones(3)
    out = compiled(x=x, y=y) if named else compiled(x, y)
    np.testing.assert_array_equal(np.asarray(out), [1, 2, 3])
    assert x.is_deleted() and not y.is_deleted() and not weight.stored.is_deleted()


def test_arguments_may_be_trees(counter):
    @lamina.jit
    def total(parts, *more, scale=1.0, **named):
        counter.assign_add(1.0)
        return {"sum": (sum(parts["a"]) + sum(more) + sum(named.values())) * scale, "none": None}

    out = total({"a": [1.0, 2.0]}, 3.0, 4.0, scale=2.0, z=5.0)
    assert float(out["sum"]) == 30 and out["none"] is None and float(counter) == 1


def test_a_function_without_variables_and_arguments():
    assert float(lamina.jit(lambda: 2.0)()) == 2


WRONG = [
    ({"static_argnums": 3}, ValueError, 'jit "scaled": static_argnums must be below 3, got 3'),
    ({"donate_argnums": -4}, ValueError, 'jit "scaled": donate_argnums must be below 3, got -4'),
    ({"static_argnames": "q"}, ValueError, 'jit "scaled": static_argnames must be among x, factor, power, got .q.'),
    ({"in_shardings": None}, TypeError, "jit: options must be among .* got in_shardings"),
]


@pytest.mark.parametrize("options, error, message", WRONG)
def test_wrong_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        lamina.jit(scaled, **options)


def test_static_arguments_must_be_hashable():
    with pytest.raises(ValueError, match=r'jit "scaled": static arguments must be hashable, got .*factor'):
        lamina.jit(scaled, static_argnames="factor")(X, factor=[1])


# Methods


class Machine:
    """Equal to all others and without a hash: only identity tells them apart."""

    def __init__(self, step):
        self.step, self.total = step, Variable(0.0)

    def __eq__(self, other):
        return True

    __hash__ = None

    @lamina.jit
    def advance(self, times):
        """Go on."""
        self.total.assign_add(self.step * times)
        return self.total.value

    @lamina.jit(static_argnums=(0, 1))
    def repeated(self, times, x):
        assert isinstance(times, int)
        return [x * self.step] * times


def test_methods_belong_to_their_instances():
    one, two = Machine(1.0), Machine(10.0)
    assert [float(m.advance(n)) for n, m in ((1, one), (1, two), (2, one), (3, two))] == [1, 10, 3, 40]
    assert [len(m.repeated(2, x=1.0)) for m in (one, two)] == [2, 2] and float(two.repeated(1, 2.0)[0]) == 20
    assert float(one.total) == 3 and one.advance.__doc__ == Machine.advance.__doc__ == "Go on."
    assert float(Machine(5.0).advance(2)) == 10  # an instance that nothing else holds


def test_methods_keep_no_instance_alive():
    machine = Machine(1.0)
    machine.advance(1)
    gone = weakref.ref(machine)
    del machine
    gc.collect()
    assert gone() is None


def test_a_layer_whose_call_is_compiled_is_freed_copied_and_trained():
    class Compiled(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        @lamina.jit
        def call(self, x):
            self.add_loss(ops.mean(x**2))
            return self.dense(x)

    layer = Compiled()
    out = layer(X)
    np.testing.assert_allclose(float(layer.losses[0]), (X**2).mean(), rtol=1e-5)
    twin = copy.deepcopy(layer)
    twin.dense.kernel.assign(twin.dense.kernel * 0)
    np.testing.assert_array_equal(np.asarray(twin(X)), np.zeros((5, 3)))
    np.testing.assert_array_equal(np.asarray(layer(X)), np.asarray(out))
    model = lamina.Sequential([layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    before = layer.dense.kernel.numpy()
    history = model.fit(X, X[:, :1], verbose=0).history
    assert history["loss"][0] > (X**2).mean() and np.any(layer.dense.kernel.numpy() != before)
    gone = weakref.ref(layer)
    del layer, model
    gc.collect()
    assert gone() is None


def test_a_compiled_function_as_an_attribute_is_copied():
    machine = Machine(1.0)
    machine.double = lamina.jit(lambda x: 2 * x)
    assert float(copy.deepcopy(machine).double(2)) == 4


# State


def test_two_threads_may_call_first_at_once():
    for _ in range(5):
        many = [Variable(float(i)) for i in range(20)]
        compiled = lamina.jit(lambda x: sum(v * x for v in many))  # noqa: B023
        ready, found = threading.Barrier(4), []

        def call():
            ready.wait()  # noqa: B023
            found.append(float(compiled(2.0)))  # noqa: B023

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [380.0] * 4


def test_new_shapes_may_find_and_change_more_variables(counter, weight):
    @lamina.jit(donate_state=True)
    def step(x):
        if x.ndim:
            counter.assign_add(weight.value[0] + 1)
            weight.assign_add(x)
        return x * counter

    assert float(step(2.0)) == 0
    np.testing.assert_array_equal(np.asarray(step(jnp.ones(3))), [1, 1, 1])
    assert float(step(2.0)) == 2
    np.testing.assert_array_equal(weight.numpy(), [1, 2, 3])


def test_state_may_be_donated_and_what_was_handed_out_stays(weight):
    step = lamina.jit(lambda: weight.assign_add(1.0), donate_state=True)
    before = weight.value
    returned = step()
    inside = weight.stored
    step()
    assert inside.is_deleted()  # nobody else held it: its memory is that of the new value
    np.testing.assert_array_equal(np.asarray(before), [0, 1, 2])
    np.testing.assert_array_equal(np.asarray(returned), [1, 2, 3])
    np.testing.assert_array_equal(weight.numpy(), [2, 3, 4])


def test_state_that_is_read_only_is_not_donated(weight, counter):
    step = lamina.jit(lambda: counter.assign_add(weight.value.sum()), donate_state=True)
    step()
    inside = weight.stored
    step()
    assert not inside.is_deleted() and float(counter) == 6


@pytest.mark.parametrize("donate", [False, True])
def test_no_array_is_held_twice(donate, weight):
    twin, x = Variable(np.zeros(3)), jnp.ones(3)

    def shares(x):
        weight.assign(x)
        twin.assign(x)
        return x, weight.value, twin.value

    step = lamina.jit(shares, donate_state=donate)
    for _ in range(2):
        out = step(x)
    held = [x, *out, weight.stored, twin.stored]
    assert len({array.unsafe_buffer_pointer() for array in held}) == len(held)


def test_outputs_stay_when_a_fit_gives_the_weights_away():
    model = lamina.Sequential([lamina.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    weights = lamina.jit(lambda: [v.value for v in model.weights])()
    before = [np.array(w) for w in weights]
    model.fit(X, X[:, :1], epochs=2, verbose=0)
    for kept, was in zip(weights, before):
        np.testing.assert_array_equal(np.asarray(kept), was)


def test_an_error_leaves_state_and_traceback(counter):
    def step(x):
        counter.assign_add(1.0)
        return x["missing"]

    for donate in (False, True):
        with pytest.raises(KeyError, match="missing") as caught:
            lamina.jit(step, donate_state=donate)({"x": 1.0})
        assert caught.traceback[-1].name == "step" and float(counter) == 0
    works = lamina.jit(lambda x: step(x) if "missing" in x else step({}))
    with pytest.raises(KeyError):
        works({"x": 1.0})
    assert float(works({"missing": 2.0})) == 2 and float(counter) == 1


def test_variables_that_each_trace_makes_anew_are_refused():
    def fn(x):
        local = Variable(0.0, name="local")
        local.assign_add(x)
        return local.value

    with pytest.raises(ValueError, match='jit "fn": must not make variables anew each time it is traced, made local'):
        lamina.jit(fn)(1.0)


# Inside other transforms, and under settings


@pytest.mark.parametrize(
    "around",
    [
        lambda fn: fn,
        lamina.jit,
        lambda fn: lambda x: lamina.value_and_grad(fn, [])(x)[0],
        lambda fn: lambda x: lamina.vmap(lambda _: fn(x))(jnp.zeros(2))[0],
        lambda fn: lambda x: ops.fori_loop(0, 1, lambda i, _: fn(x), 0.0),
        lambda fn: lambda x: ops.cond(jnp.array(True), lambda: fn(x), lambda: 0.0),
        lamina.remat,
    ],
    ids=["plain", "jit", "grad", "vmap", "loop", "branch", "remat"],
)
def test_a_compiled_function_works_inside_every_transform(around, counter, weight):
    def step(x):
        counter.assign_add(1.0)
        return ops.sum(weight.value * x) + counter

    fn = around(lamina.jit(step))
    assert [float(fn(2.0)) for _ in range(2)] == [7, 8] and float(counter) == 2


def test_a_compiled_function_works_inside_a_fit(counter):
    compiled = lamina.jit(lambda x: counter.assign_add(ops.sum(x)))

    class Model(lamina.Model):
        def train_step(self, data):
            return {"total": compiled(data)}

    model = Model()
    model.compile()
    history = model.fit(np.ones((4, 1), "float32"), batch_size=2, epochs=2, verbose=0).history
    assert history["total"] == [4, 8] and float(counter) == 8


def test_gradients_pass_through_a_compiled_function(weight):
    compiled = lamina.jit(lambda x: ops.sum(weight.value**2 * x))
    _, (gradient,) = lamina.value_and_grad(compiled, [weight])(3.0)
    np.testing.assert_allclose(np.asarray(gradient), 6 * np.arange(3.0))


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("transform", [jax.jit, jax.grad], ids=["jit", "grad"])
def test_inside_a_plain_jax_transform_nothing_is_lost_in_silence(transform, donate, counter):
    compiled = lamina.jit(lambda x: counter.assign_add(x), donate_state=donate)
    assert float(compiled(1.0)) == 1
    with pytest.raises(ValueError, match='Variable "counter": must not be assigned inside a plain JAX transform'):
        transform(compiled)(1.0)
    assert float(counter) == 1 and float(compiled(1.0)) == 2


def test_the_call_around_is_looked_at_anew():
    inner = layers.Dropout(0.5, seed=1)
    compiled = lamina.jit(lambda x: inner(x))

    class Outer(layers.Layer):
        def call(self, x, training=False):
            return compiled(x)

    outer, x = Outer(), np.ones((4, 8), "float32")
    dropped = [bool(np.any(np.asarray(outer(x, training=t)) == 0)) for t in (False, True, False, True)]
    assert dropped == [False, True, False, True]


def test_the_dtype_around_is_looked_at_anew(weight):
    compiled = lamina.jit(lambda: weight.value)

    class Reads(layers.Layer):
        def call(self, x):
            return compiled()

    assert [Reads(dtype=d)(X).dtype.name for d in ("float32", "bfloat16")] == ["float32", "bfloat16"]
    assert compiled().dtype == "float32"


def test_a_loop_of_ones_own_with_donated_state_is_a_fit():
    def model():
        lamina.utils.set_random_seed(1)
        made = lamina.Sequential([lamina.Input((3,)), layers.Dense(4, "relu"), layers.Dropout(0.5), layers.Dense(1)])
        made.compile(lamina.optimizers.Adam(0.01), "mse")
        return made

    fitted = model()
    fitted.fit(X, X[:, :1], batch_size=5, epochs=3, shuffle=False, verbose=0)
    mine = model()

    @lamina.jit(donate_state=True)
    def step(x, y):
        loss, grads = lamina.value_and_grad(lambda: ops.mean((mine(x, training=True) - y) ** 2), mine)()
        mine.optimizer.apply(grads, mine.trainable_variables)
        return loss

    for _ in range(3):
        step(X, X[:, :1])
    for a, b in zip(mine.get_weights(), fitted.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_code_on_the_host_may_read_variables_that_are_donated():
    variable, seen = lamina.Variable(np.zeros(3)), []

    @lamina.jit(donate_state=True)
    def step():
        variable.assign_add(jnp.ones(3))
        jax.debug.callback(lambda: seen.append(variable.numpy()))

    for _ in range(3):
        step()
    jax.effects_barrier()
    assert len(seen) == 3
    np.testing.assert_array_equal(variable, np.full(3, 3.0))


@pytest.mark.parametrize(
    "args, named",
    [
        (("text",), "argument 0 must hold arrays, got a str"),
        (({"a": 1, "b": [np.ones(2), "text"]},), "argument 0 must hold arrays, got a str"),
        ((1.0, lamina.Variable(1.0)), "argument 1 must hold arrays, got a Variable"),
        ((lamina.layers.Dense(2), 1.0), "argument 0 must hold arrays, got a Dense"),
    ],
    ids=["text", "inside", "variable", "layer"],
)
def test_an_argument_that_is_no_array_is_named(args, named):
    with pytest.raises(TypeError, match=named) as caught:
        lamina.jit(lambda *args: args[-1])(*args)
    assert "static_argnames" in str(caught.value)
