"""Trunks: the papers' networks as chains of named blocks, full size or pocket, with weights that say where they come
from.
"""
