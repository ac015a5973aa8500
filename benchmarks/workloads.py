"""What is measured, as data: a workload is a model, its hand-written PyTorch twin, and synthetic rows.

A model is made from a Keras-like module `k`, a twin from the module `torch`: this file imports neither, so
that each process pays for, and times, only the library that it runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Workload:
    """One model with its data. `epochs` are enough to see a steady one; `quick_rows` serve `--quick`.

    `streams` names what else the rows come from, see `streams.py`.
    """

    title: str
    model: Callable[[Any], Any]
    twin: Callable[[Any], Any]
    data: Callable[[np.random.Generator, int], Arrays]
    rows: int
    quick_rows: int
    batch: int
    epochs: int
    optimizer: str = "adam"
    loss: str = "sparse_categorical_crossentropy"
    metrics: tuple[str, ...] = ("accuracy",)
    streams: tuple[str, ...] = ()

    def size(self, quick: bool) -> int:
        """How many rows there are."""
        return self.quick_rows if quick else self.rows

    def arrays(self, quick: bool) -> Arrays:
        """The rows, the same in each process."""
        return self.data(np.random.default_rng(0), self.size(quick))


# ---- data --------------------------------------------------------------------------------------------------


def clouds(rng: np.random.Generator, rows: int) -> Arrays:
    """Two Gaussian clouds in the plane, to be told apart by a line."""
    label = rng.integers(0, 2, rows)
    centre = np.array([[0.0, 3.0], [3.0, 0.0]])
    points = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], rows) + centre[label]
    return points.astype("float32"), label.astype("float32")[:, np.newaxis]


def pictures(*shape: int) -> Callable[[np.random.Generator, int], Arrays]:
    """Ten noisy prototypes of the given shape: learnable, so that the loss moves as it does in real work."""

    def make(rng: np.random.Generator, rows: int) -> Arrays:
        prototypes = rng.random((10, *shape), dtype="float32")
        label = rng.integers(0, 10, rows)
        return prototypes[label] + 0.5 * rng.standard_normal((rows, *shape), dtype="float32"), label

    return make


def sentences(length: int, classes: int) -> Callable[[np.random.Generator, int], Arrays]:
    """Sequences of words out of 5,000; the label tells which part of the vocabulary is used more."""

    def make(rng: np.random.Generator, rows: int) -> Arrays:
        label = rng.integers(0, classes, rows)
        part = 5000 // classes
        anywhere = rng.integers(0, 5000, (rows, length))
        own = rng.integers(0, part, (rows, length)) + part * label[:, np.newaxis]
        words = np.where(rng.random((rows, length)) < 0.3, own, anywhere).astype("int32")
        return words, label if classes > 2 else label.astype("float32")[:, np.newaxis]

    return make


# ---- a line through two clouds: almost no arithmetic, so what is left is the library -----------------------


def linear(k):
    return k.Sequential([k.Input((2,)), k.layers.Dense(1, activation="sigmoid")])


def linear_twin(torch):
    return torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Sigmoid())


# ---- multi-layer perceptron --------------------------------------------------------------------------------


def mlp(k):
    return k.Sequential(
        [k.Input((784,)), k.layers.Dense(512, activation="relu"), k.layers.Dense(10, activation="softmax")]
    )


def mlp_twin(torch):
    nn = torch.nn
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))


# ---- towers of small layers: what a layer costs, to build, to compile, to look at -----------------------------------


def tower(depth: int):
    def model(k):
        return k.Sequential([k.Input((32,)), *(k.layers.Dense(32, activation="relu") for _ in range(depth))])

    return model


def tower_twin(depth: int):
    def model(torch):
        nn = torch.nn
        return nn.Sequential(*(part for _ in range(depth) for part in (nn.Linear(32, 32), nn.ReLU())))

    return model


def vectors(rng: np.random.Generator, rows: int) -> Arrays:
    """Vectors of 32 numbers, to be given back."""
    points = rng.random((rows, 32), dtype="float32")
    return points, points


# ---- small convolutional network ---------------------------------------------------------------------------


def convnet(k):
    layers = k.layers
    return k.Sequential(
        [
            k.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def convnet_twin(torch):
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(1600, 10),
    )


# ---- recurrent network -------------------------------------------------------------------------------------


def lstm(k):
    layers = k.layers
    return k.Sequential(
        [
            k.Input((100,), dtype="int32"),
            layers.Embedding(5000, 64),
            layers.LSTM(64),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def lstm_twin(torch):
    nn = torch.nn

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5000, 64)
            self.lstm = nn.LSTM(64, 64, batch_first=True)
            self.head = nn.Linear(64, 1)

        def forward(self, words):
            _, (state, _) = self.lstm(self.embedding(words))  # (1, batch, 64)
            return self.head(state[-1])

    return Reader()


# ---- transformer encoder -----------------------------------------------------------------------------------


def transformer(k):
    layers = k.layers
    words = k.Input((128,), dtype="int32")
    h = layers.Embedding(5000, 128)(words)  # (batch, 128 tokens, width 128)
    for _ in range(2):
        normal = layers.LayerNormalization()(h)
        h = layers.add([h, layers.MultiHeadAttention(4, 32)(normal, normal)])
        normal = layers.LayerNormalization()(h)
        h = layers.add([h, layers.Dense(128)(layers.Dense(512, activation="gelu")(normal))])
    h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
    return k.Model(words, layers.Dense(10, activation="softmax")(h))


def transformer_twin(torch):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1, self.norm_2 = nn.LayerNorm(128), nn.LayerNorm(128)
            self.attention = nn.MultiheadAttention(128, 4, batch_first=True)
            self.mlp = nn.Sequential(nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128))

        def forward(self, h):
            normal = self.norm_1(h)
            h = h + self.attention(normal, normal, normal, need_weights=False)[0]
            return h + self.mlp(self.norm_2(h))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(5000, 128)
            self.blocks = nn.Sequential(Block(), Block(), nn.LayerNorm(128))
            self.head = nn.Linear(128, 10)

        def forward(self, words):
            return self.head(self.blocks(self.embedding(words)).mean(1))

    return Encoder()


# ---- residual network --------------------------------------------------------------------------------------


def resnet(k):
    layers = k.layers

    def convolution(h, filters, size=3, strides=1):
        h = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(h)
        return layers.BatchNormalization()(h)

    image = k.Input((32, 32, 3))
    h = layers.ReLU()(convolution(image, 16))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        shortcut = h if strides == 1 else convolution(h, filters, 1, strides)
        h = layers.ReLU()(convolution(h, filters, strides=strides))
        h = layers.ReLU()(layers.add([shortcut, convolution(h, filters)]))
    h = layers.GlobalAveragePooling2D()(h)
    return k.Model(image, layers.Dense(10, activation="softmax")(h))


def resnet_twin(torch):
    nn = torch.nn

    def convolution(inputs, filters, size=3, stride=1):
        return nn.Sequential(
            nn.Conv2d(inputs, filters, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(filters)
        )

    class Block(nn.Module):
        def __init__(self, inputs, filters, stride):
            super().__init__()
            self.shortcut = nn.Identity() if stride == 1 else convolution(inputs, filters, 1, stride)
            self.first = convolution(inputs, filters, stride=stride)
            self.second = convolution(filters, filters)

        def forward(self, h):
            return torch.relu(self.shortcut(h) + self.second(torch.relu(self.first(h))))

    return nn.Sequential(
        convolution(3, 16),
        nn.ReLU(),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


WORKLOADS = {
    "linear": Workload(
        "Linear classifier: Dense(1) on {rows:,} points, batch 16",
        linear, linear_twin, clouds, rows=1400, quick_rows=1400, batch=16, epochs=20,
        optimizer="rmsprop", loss="mean_squared_error", metrics=(),
    ),
    "mlp": Workload(
        "MLP 784-512-10 on {rows:,} rows, batch 128",
        mlp, mlp_twin, pictures(784), rows=60000, quick_rows=12000, batch=128, epochs=3,
        streams=("generator", "PyDataset", "tf.data", "DataLoader"),
    ),
    **{
        f"tower-{depth}": Workload(
            f"{depth} Dense(32) on {{rows:,}} rows, batch 32",
            tower(depth), tower_twin(depth), vectors, rows=320, quick_rows=64, batch=32, epochs=3,
            loss="mean_squared_error", metrics=(),
        )
        for depth in (10, 100, 300)
    },
    "convnet": Workload(
        "Convnet (Conv 32, Conv 64, dropout) on {rows:,} images of 28x28x1, batch 128",
        convnet, convnet_twin, pictures(28, 28, 1), rows=6000, quick_rows=1500, batch=128, epochs=4,
        streams=("generator", "PyDataset", "tf.data", "DataLoader", "JPEG files"),
    ),
    "lstm": Workload(
        "Embedding and LSTM(64) on {rows:,} sentences of 100 words, batch 32",
        lstm, lstm_twin, sentences(100, 2), rows=2000, quick_rows=320, batch=32, epochs=3,
        loss="binary_crossentropy",
    ),
    "transformer": Workload(
        "Transformer encoder (2 blocks, width 128, 4 heads) on {rows:,} texts of 128 tokens, batch 32",
        transformer, transformer_twin, sentences(128, 10), rows=640, quick_rows=160, batch=32, epochs=4,
    ),
    "resnet": Workload(
        "Small ResNet (batch normalization) on {rows:,} images of 32x32x3, batch 64",
        resnet, resnet_twin, pictures(32, 32, 3), rows=1000, quick_rows=320, batch=64, epochs=4,
    ),
}  # fmt: skip
