"""Trunks: the papers' networks as chains of named blocks, full size or pocket, with weights that say where they come
from.
"""

from pneumo_utils.backbones.catalogue import names
from pneumo_utils.backbones.chain import HEAD, About, Chain, units, with_head
from pneumo_utils.backbones.shapes import check_size
from pneumo_utils.backbones.trunk import trunk

__all__ = ["HEAD", "About", "Chain", "check_size", "names", "trunk", "units", "with_head"]
