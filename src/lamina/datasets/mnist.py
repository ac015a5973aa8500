"""70,000 handwritten digits: Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist (CC BY-SA 3.0)."""

from lamina.datasets.reading import Split, arrays


def load_data(path: str = "mnist.npz") -> Split:
    """`(x_train, y_train), (x_test, y_test)`: 60,000 and 10,000 images `(n, 28, 28)` and digits `(n,)`, uint8.

    Args:
        path: the name of the file in the cache.
    """
    x_train, y_train, x_test, y_test = arrays("mnist.npz", path, "x_train", "y_train", "x_test", "y_test")
    return (x_train, y_train), (x_test, y_test)
