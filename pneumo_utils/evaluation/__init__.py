"""Honest evaluation from kept predictions: metrics with intervals, thresholds from validation, baselines, and the
word "better".
"""
