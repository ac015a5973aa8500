"""1,797 handwritten digits of 8x8 pixels, inside the package: a first example needs no download."""

from pathlib import Path

import numpy as np


def load_data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """`(x_train, y_train), (x_test, y_test)`: 1,437 digits to learn from and 360 held out, 36 of each kind.

    The split is fixed; `README.md` beside this file says how it was drawn, and why so.

    Shapes:
        x: `(n, 8, 8)`, uint8 from 0 (paper) to 16 (ink).
        y: `(n,)`, uint8 from 0 to 9.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49 (CC BY 4.0).
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        return (file["x_train"], file["y_train"]), (file["x_test"], file["y_test"])
