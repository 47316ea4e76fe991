"""A rule of a claim that is not in the ledger."""

RULE = {
    "asks": "Is the deep network more accurate than the shallow one?",
    "experiment": "depth",
    "metric": "accuracy",
    "compare": ["deep > shallow"],
    "paired_by": "seed",
}
