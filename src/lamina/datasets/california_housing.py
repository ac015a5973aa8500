"""20,640 districts of California: R. K. Pace, R. Barry, 1997."""

from lamina.core import checks
from lamina.datasets.reading import Split, housing


def load_data(
    version: str = "large", path: str = "california_housing.npz", test_split: float = 0.2, seed: int = 113
) -> Split:
    """`(x_train, y_train), (x_test, y_test)`: 8 columns, and median prices of homes in dollars, float32.

    Args:
        version: `"large"`, or `"small"` for the first 600 districts.
        path, test_split, seed: as for `boston_housing`.
    """
    checks.one_of("california_housing", "version", version, ("large", "small"))
    return housing("california_housing", path, test_split, seed, 600 if version == "small" else None)
