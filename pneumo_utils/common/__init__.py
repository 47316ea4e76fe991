"""Used by all other packages: error messages, safe file access, paths of runs, and digests of code."""
