"""Models of dense layers."""

from functools import partial

from .data import clouds, pictures, records, shades, vectors
from .workload import Workload, module


# A line through two clouds: almost no arithmetic, so what is left is the library.
def linear(k):
    return k.Sequential([k.Input((2,)), k.layers.Dense(1, activation="sigmoid")])


def linear_twin(torch):
    return torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Sigmoid())


# Multi-layer perceptron.
def mlp(k):
    return k.Sequential(
        [k.Input((784,)), k.layers.Dense(512, activation="relu"), k.layers.Dense(10, activation="softmax")]
    )


def mlp_twin(torch):
    nn = torch.nn
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))


# Towers of small layers: what a layer costs, to build, to compile, to look at.
def tower(k, depth):
    return k.Sequential([k.Input((32,)), *(k.layers.Dense(32, activation="relu") for _ in range(depth))])


def tower_twin(torch, depth):
    nn = torch.nn
    return nn.Sequential(*(part for _ in range(depth) for part in (nn.Linear(32, 32), nn.ReLU())))


# A table of records: normalization and dropout between small layers.
def tabular(k):
    layers = k.layers
    model = k.Sequential([k.Input((200,))])
    for width in (128, 64):
        for layer in (layers.Dense(width), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.3)):
            model.add(layer)
    model.add(layers.Dense(1, activation="sigmoid"))
    return model


def tabular_twin(torch):
    nn = torch.nn

    def block(inputs, width):
        return nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3))

    return nn.Sequential(block(200, 128), block(128, 64), nn.Linear(64, 1))


# Variational autoencoder: a subclassed model with a loss of its own.
def vae(k):
    layers, ops = k.layers, k.ops

    class Autoencoder(k.Model):
        def __init__(self):
            super().__init__()
            self.encoder = k.Sequential([layers.Dense(256, activation="relu"), layers.Dense(32)])
            self.decoder = k.Sequential([layers.Dense(256, activation="relu"), layers.Dense(784, activation="sigmoid")])
            self.seed = k.random.SeedGenerator(0)

        def call(self, x, training=False):
            mean, log_variance = ops.split(self.encoder(x), 2, axis=1)
            noise = k.random.normal(ops.shape(mean), seed=self.seed) if training else 0.0
            return self.decoder(mean + ops.exp(log_variance / 2) * noise), mean, log_variance

        # Not a `train_step`, which Keras has written in another way on each of its backends.
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            given_back, mean, log_variance = y_pred
            likelihood = 784 * k.losses.binary_crossentropy(y, given_back)
            divergence = ops.sum(ops.exp(log_variance) + mean**2 - 1 - log_variance, axis=1) / 2
            return ops.mean(likelihood + divergence)

    return Autoencoder()


def vae_twin(torch):
    nn = torch.nn

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        noise = torch.randn_like(mean) if self.training else 0.0
        return self.decoder(mean + torch.exp(log_variance / 2) * noise), mean, log_variance

    encoder = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 32))
    decoder = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 784))
    return module(torch, forward, encoder=encoder, decoder=decoder)


def vae_loss(torch):
    def loss(outputs, targets):
        logits, mean, log_variance = outputs
        likelihood = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
        return (likelihood + (log_variance.exp() + mean**2 - 1 - log_variance).sum(1) / 2).mean()

    return loss


DENSE = {
    "linear": Workload(
        "Linear classifier: Dense(1) on {rows:,} points, batch 16",
        linear, linear_twin, clouds, rows=1400, quick_rows=1400, batch=16, epochs=20,
        optimizer="rmsprop", loss="MeanSquaredError", metrics=(),
    ),
    "mlp": Workload(
        "MLP 784-512-10 on {rows:,} rows, batch 128",
        mlp, mlp_twin, partial(pictures, shape=(784,)), rows=60000, quick_rows=12000, batch=128, epochs=3,
        streams=("generator", "PyDataset", "tf.data", "DataLoader"),
    ),
    **{
        f"tower-{depth}": Workload(
            f"{depth} Dense(32) on {{rows:,}} rows, batch 32",
            partial(tower, depth=depth), partial(tower_twin, depth=depth), vectors,
            rows=320, quick_rows=64, batch=32, epochs=3, loss="MeanSquaredError", metrics=(),
        )
        for depth in (10, 100, 300)
    },
    "vae": Workload(
        "VAE 784-256-16-256-784 with a loss of its own on {rows:,} rows, batch 128",
        vae, vae_twin, partial(shades, shape=(784,)), rows=30000, quick_rows=6000, batch=128, epochs=3,
        loss=None, twin_loss=vae_loss, metrics=(),
    ),
    "tabular": Workload(
        "Dense 128-64-1, normalization and dropout, on {rows:,} rows of 200 numbers, batch 256",
        tabular, tabular_twin, partial(records, columns=200), rows=50000, quick_rows=20000, batch=256, epochs=4,
        loss="BinaryCrossentropy",
    ),
    "own-loop": Workload(
        "A loop of one's own: MLP 784-512-10 on {rows:,} rows, batch 128",
        mlp, None, partial(pictures, shape=(784,)), rows=60000, quick_rows=12000, batch=128, epochs=3,
        peers=("lamina", "jax-optax", "flax-nnx"),
    ),
}  # fmt: skip
