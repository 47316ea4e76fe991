"""Boxes: detectors, what they are trained on, how what they find is scored, and what is found by whoever sees no
image.
"""
