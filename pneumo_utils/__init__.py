"""The thin package behind the book: what the notebooks share, and nothing that a reader should see in them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the checkout: the book's prose, its claims and its notebooks lie there
