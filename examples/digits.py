"""Teach a small convolutional network to read handwritten digits, in a few seconds on a laptop.

    python examples/digits.py        (or `make demo`, which installs what is needed first)

Leaves out/digits.keras, the trained model, and out/digits.png: how it learned, and where it doubts.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import lamina
from lamina import layers

OUT = Path("out")
GOAL = 0.98
BLUE, ORANGE, RED, GREY = "#2563a8", "#e08a1e", "#d62728", "#5f6368"


def main():
    lamina.utils.set_random_seed(7)
    OUT.mkdir(exist_ok=True)

    # 1. Data: 8x8 images, 0 (paper) to 16 (ink). The network sees a channel axis, and values from 0 to 1.
    (x_train, y_train), (x_test, y_test) = lamina.datasets.digits.load_data()
    x_train, x_test = (x[..., np.newaxis].astype("float32") / 16 for x in (x_train, x_test))

    # 2. Model: convolutions find strokes, then corners and loops; the last layer weighs them for each digit.
    model = lamina.Sequential(
        [
            lamina.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),  # in training only: lean on no single feature
            layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )
    model.summary()

    # 3. Training. A tenth of the training digits is watched, not learned from; the test digits stay unseen.
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x_train, y_train, batch_size=32, epochs=30, validation_split=0.1).history

    # 4. The honest number: digits that played no part above.
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"\nAccuracy on {len(x_test)} held-out digits: {accuracy:.2%}")

    # 5. A model is a file: saved and loaded again, it answers the same, to the last bit.
    probabilities = model.predict(x_test, verbose=0)  # (360, 10)
    model.save(OUT / "digits.keras")
    loaded = lamina.models.load_model(OUT / "digits.keras")
    same = np.array_equal(probabilities, loaded.predict(x_test, verbose=0))
    print(f"Saved to {OUT / 'digits.keras'} and loaded again: predictions identical: {same}")

    draw(history, x_test, y_test, probabilities).savefig(OUT / "digits.png", bbox_inches="tight")
    print(f"Curves and the hardest digits: {OUT / 'digits.png'}")

    if accuracy < GOAL:
        sys.exit(f"FAILED: {accuracy:.2%} of the held-out digits were read; the goal is {GOAL:.0%}.")
    if not same:
        sys.exit("FAILED: the loaded model predicts differently from the saved one.")


def draw(history, x, y, probabilities):
    """A figure: the curves of the training on top, below them the digits the network was least sure of."""
    figure = Figure(figsize=(11, 10), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[2, 3], hspace=0.04)

    epochs = np.arange(1, len(history["loss"]) + 1)
    for axes, name in zip(top.subplots(1, 2), ("loss", "accuracy")):
        axes.plot(epochs, history[name], color=BLUE, linewidth=2, label="training")
        axes.plot(epochs, history[f"val_{name}"], color=ORANGE, linewidth=2, label="validation")
        axes.set_title(name.capitalize(), loc="left", fontweight="bold")
        axes.set_xlabel("epoch", color=GREY)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center right")

    label, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    title = f"The least certain answers for {len(y)} held-out digits; {(label != y).sum()} are wrong (red)"
    bottom.suptitle(title, fontweight="bold")
    for axes, i in zip(bottom.subplots(4, 10).flat, np.argsort(confidence)):
        right = label[i] == y[i]
        ink, frame, cmap = (GREY, "#d0d4d9", "gray_r") if right else (RED, RED, "Reds")
        truth = "" if right else f", not {y[i]}"
        axes.imshow(x[i, ..., 0], cmap=cmap)
        axes.set_title(f"{label[i]}{truth}  {confidence[i]:.0%}", fontsize=10, color=ink)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=frame, linewidth=1 if right else 2.5)
    return figure


if __name__ == "__main__":
    main()
