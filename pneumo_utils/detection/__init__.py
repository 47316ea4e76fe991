"""Boxes: a detector of the YOLOv2 kind, its anchors, its loss, and how its boxes are scored."""
