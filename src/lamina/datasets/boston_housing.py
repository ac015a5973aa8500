"""506 suburbs of Boston: D. Harrison, D. Rubinfeld, 1978. One column is about race, so use it with care."""

from lamina.datasets.reading import Split, housing


def load_data(path: str = "boston_housing.npz", test_split: float = 0.2, seed: int = 113) -> Split:
    """`(x_train, y_train), (x_test, y_test)`: 13 columns, and prices of homes in thousands of dollars, float64.

    Args:
        path: the name of the file in the cache.
        test_split: the share of the rows that is for tests.
        seed: of the order of the rows.
    """
    return housing("boston_housing", path, test_split, seed)
