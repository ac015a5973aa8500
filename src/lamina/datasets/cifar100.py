"""60,000 photographs of 100 kinds: A. Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html."""

from lamina.core import checks
from lamina.datasets.cifar10 import batches
from lamina.datasets.reading import Split


def load_data(label_mode: str = "fine") -> Split:
    """`(x_train, y_train), (x_test, y_test)`: images as those of `cifar10`, uint8, and kinds `(n, 1)`, int64.

    Args:
        label_mode: `"fine"`, or `"coarse"` for 20 kinds.
    """
    checks.one_of("cifar100", "label_mode", label_mode, ("fine", "coarse"))
    files = ["train"], ["test"]
    return batches("cifar-100-python.tar.gz", "cifar-100-python", files, f"{label_mode}_labels".encode())
