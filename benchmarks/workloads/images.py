"""Models that look at images."""

from functools import partial

from .data import discs, pictures
from .workload import Workload, module


# Small convolutional network.
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


# Residual network.
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

    def block(inputs, filters, stride):
        return module(
            torch,
            lambda self, h: torch.relu(self.shortcut(h) + self.second(torch.relu(self.first(h)))),
            shortcut=nn.Identity() if stride == 1 else convolution(inputs, filters, 1, stride),
            first=convolution(inputs, filters, stride=stride),
            second=convolution(filters, filters),
        )

    return nn.Sequential(
        convolution(3, 16),
        nn.ReLU(),
        block(16, 16, 1),
        block(16, 32, 2),
        block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


# Separable convolutions.
def separable(k):
    layers = k.layers

    def normal(h):
        return layers.ReLU()(layers.BatchNormalization()(h))

    image = k.Input((32, 32, 3))
    h = normal(layers.Conv2D(32, 3, padding="same", use_bias=False)(image))
    for filters in (64, 128):
        h = normal(layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(h))
        h = layers.MaxPooling2D()(h)
    h = normal(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(h))
    h = normal(layers.Conv2D(128, 1, use_bias=False)(h))
    h = layers.GlobalAveragePooling2D()(h)
    return k.Model(image, layers.Dense(10, activation="softmax")(h))


def separable_twin(torch):
    nn = torch.nn

    def convolution(inputs, filters, size, groups=1):
        return nn.Conv2d(inputs, filters, size, padding=size // 2, groups=groups, bias=False)

    def normal(width, *parts):
        return nn.Sequential(*parts, nn.BatchNorm2d(width), nn.ReLU())

    return nn.Sequential(
        normal(32, convolution(3, 32, 3)),
        normal(64, convolution(32, 32, 3, groups=32), convolution(32, 64, 1)),
        nn.MaxPool2d(2),
        normal(128, convolution(64, 64, 3, groups=64), convolution(64, 128, 1)),
        nn.MaxPool2d(2),
        normal(128, convolution(128, 128, 3, groups=128)),
        normal(128, convolution(128, 128, 1)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


# U-Net: which pixels belong to a thing.
def u_net(k):
    layers = k.layers

    def stage(h, filters):
        for _ in range(2):
            h = layers.Conv2D(filters, 3, padding="same", activation="relu")(h)
        return h

    image = k.Input((64, 64, 1))
    h, kept = image, []
    for filters in (16, 32):
        kept.append(stage(h, filters))
        h = layers.MaxPooling2D()(kept[-1])
    h = stage(h, 64)
    for filters in (32, 16):
        h = layers.Conv2DTranspose(filters, 2, strides=2)(h)
        h = stage(layers.concatenate([kept.pop(), h]), filters)
    return k.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(h))


def u_net_twin(torch):
    nn = torch.nn

    def stage(inputs, filters):
        return nn.Sequential(
            nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU(), nn.Conv2d(filters, filters, 3, padding=1), nn.ReLU()
        )

    def forward(self, h):
        kept = []
        for down in self.down:
            kept.append(down(h))
            h = nn.functional.max_pool2d(kept[-1], 2)
        h = self.middle(h)
        for up, join in zip(self.up, self.join):
            h = join(torch.cat([kept.pop(), up(h)], 1))
        return self.head(h)

    return module(
        torch,
        forward,
        down=nn.ModuleList([stage(1, 16), stage(16, 32)]),
        middle=stage(32, 64),
        up=nn.ModuleList([nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)]),
        join=nn.ModuleList([stage(64, 32), stage(32, 16)]),
        head=nn.Conv2d(16, 1, 1),
    )


IMAGES = {
    "convnet": Workload(
        "Convnet (Conv 32, Conv 64, dropout) on {rows:,} images of 28x28x1, batch 128",
        convnet, convnet_twin, partial(pictures, shape=(28, 28, 1)), rows=6000, quick_rows=1500, batch=128, epochs=4,
        streams=("generator", "PyDataset", "tf.data", "DataLoader", "JPEG files"),
    ),
    "resnet": Workload(
        "Small ResNet (batch normalization) on {rows:,} images of 32x32x3, batch 64",
        resnet, resnet_twin, partial(pictures, shape=(32, 32, 3)), rows=1000, quick_rows=320, batch=64, epochs=4,
    ),
    "separable": Workload(
        "Separable and depthwise convolutions on {rows:,} images of 32x32x3, batch 64",
        separable, separable_twin, partial(pictures, shape=(32, 32, 3)), rows=1000, quick_rows=320, batch=64, epochs=4,
    ),
    "u-net": Workload(
        "U-Net (16, 32, 64 filters) on {rows:,} images of 64x64x1, batch 16",
        u_net, u_net_twin, partial(discs, size=64), rows=96, quick_rows=32, batch=16, epochs=4,
        loss="BinaryCrossentropy",
    ),
}  # fmt: skip
