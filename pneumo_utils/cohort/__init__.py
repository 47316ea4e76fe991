"""The ground of the package: one table of images, labels, patients and splits, which knows where its pixels are."""

from pneumo_utils.cohort.cohort import Cohort, together

__all__ = ["Cohort", "together"]
