"""The ground of the package: one table of images, labels, patients and splits, which knows where its pixels are."""
