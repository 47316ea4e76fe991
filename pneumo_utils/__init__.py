"""The thin package behind the book: what the notebooks share, and nothing that a reader should see in them."""

from pathlib import Path

# The folder that holds this package: the repository, with the notebooks and the book, or where pip installed it.
ROOT = Path(__file__).resolve().parent.parent
