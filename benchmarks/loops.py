"""Loops of one's own, as each library's users write them: the MLP 784-512-10 on batches of NumPy arrays."""

from importlib import import_module

import numpy as np

from .worker import Run, seconds


class Loop(Run):
    """A subclass makes `step(x, y) -> loss` and `forward(x) -> outputs`, compiled."""

    def fit(self, epochs: int) -> list[float]:
        rng = np.random.default_rng(0)

        def epoch():
            losses = [self.step(self.x[rows], self.y[rows]) for rows in self.batches(rng.permutation(len(self.x)))]
            return np.mean([float(loss) for loss in losses])

        return [seconds(epoch) for _ in range(epochs)]

    def batches(self, order):
        return np.split(order, range(self.workload.batch, len(order), self.workload.batch))

    def evaluate(self) -> float:
        guesses = [self.call(self.x[rows]).argmax(1) for rows in self.batches(np.arange(len(self.x)))]
        return (np.concatenate(guesses) == self.y).mean()

    def call(self, x) -> np.ndarray:
        return np.asarray(self.forward(x))

    predict = call

    def train_on_batch(self) -> None:
        float(self.step(self.x[: self.workload.batch], self.y[: self.workload.batch]))


class LaminaLoop(Loop):
    """`lamina.jit` and `lamina.value_and_grad`."""

    def build(self) -> None:
        lamina = self.library
        lamina.utils.set_random_seed(0)
        model = self.workload.model(lamina)
        loss_fn, optimizer = lamina.losses.SparseCategoricalCrossentropy(), lamina.optimizers.Adam()

        @lamina.jit(donate_state=True)
        def step(x, y):
            loss, gradients = lamina.value_and_grad(lambda: loss_fn(y, model(x, training=True)), model)()
            optimizer.apply(gradients, model.trainable_variables)
            return loss

        self.step, self.forward = step, lamina.jit(model)


class OptaxLoop(Loop):
    """Parameters in a dictionary, `jax.jit` and optax."""

    def build(self) -> None:
        jax, optax = self.library, import_module("optax")
        keys = jax.random.split(jax.random.key(0))
        start = jax.nn.initializers.glorot_uniform()
        params = {
            "hidden": {"kernel": start(keys[0], (784, 512)), "bias": jax.numpy.zeros(512)},
            "head": {"kernel": start(keys[1], (512, 10)), "bias": jax.numpy.zeros(10)},
        }
        optimizer = optax.adam(1e-3, eps=1e-7)

        @jax.jit
        def forward(params, x):
            h = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
            return h @ params["head"]["kernel"] + params["head"]["bias"]

        def loss_fn(params, x, y):
            return optax.softmax_cross_entropy_with_integer_labels(forward(params, x), y).mean()

        def step(params, state, x, y):
            loss, gradients = jax.value_and_grad(loss_fn)(params, x, y)
            updates, state = optimizer.update(gradients, state)
            return optax.apply_updates(params, updates), state, loss

        self.plain, self.compiled, self.function = step, jax.jit(step, donate_argnums=(0, 1)), forward
        self.params, self.state = params, optimizer.init(params)

    def step(self, x, y):
        self.params, self.state, loss = self.compiled(self.params, self.state, x, y)
        return loss

    def forward(self, x):
        return self.function(self.params, x)

    def flops(self) -> int:
        """Of a step, for all: the arithmetic is the same."""
        batch = self.x[: self.workload.batch], self.y[: self.workload.batch]
        return import_module("benchmarks.roofline").flops(self.plain, self.params, self.state, *batch)


class NnxLoop(Loop):
    """Flax's modules; `cached_partial` is what its guide on speed advises for small models."""

    def build(self) -> None:
        nnx, optax = self.library, import_module("optax")
        rngs = nnx.Rngs(0)
        model = nnx.Sequential(nnx.Linear(784, 512, rngs=rngs), nnx.relu, nnx.Linear(512, 10, rngs=rngs))
        optimizer = nnx.Optimizer(model, optax.adam(1e-3, eps=1e-7), wrt=nnx.Param)

        def loss_fn(model, x, y):
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        @nnx.jit
        def step(model, optimizer, x, y):
            loss, gradients = nnx.value_and_grad(loss_fn)(model, x, y)
            optimizer.update(model, gradients)
            return loss

        self.step = nnx.cached_partial(step, model, optimizer)
        self.forward = nnx.cached_partial(nnx.jit(lambda model, x: model(x)), model)


LOOPS = {"lamina": LaminaLoop, "jax-optax": OptaxLoop, "flax-nnx": NnxLoop}
