"""Evaluate saved predictions: metrics with confidence intervals, decision thresholds, baselines and comparisons of
models.
"""
