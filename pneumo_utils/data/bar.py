"""The one progress bar of the package's long loops; what ends within two seconds shows none."""

from tqdm import tqdm


def bar(items, doing: str, total: int | None = None, unit: str = " images"):
    """Wrap an iterable in a progress bar."""
    return tqdm(items, desc=doing, total=total, delay=2, mininterval=0.5, leave=False, unit=unit)
