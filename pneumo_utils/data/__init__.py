"""Radiographs with their labels, patients and splits: readers, checks, pixels, augmentation and data loaders."""
