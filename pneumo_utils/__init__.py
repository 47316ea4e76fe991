"""Load chest radiographs, train networks on them, and score and compare their predictions.

The names of this module are all that most work needs; `__init__.pyi` lists them with the modules that define them.
A module is imported when the first of its names is used, so that importing this one takes no time.
"""

import lazy_loader

from pneumo_utils.common.renamed import announce_renamed_packages

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
announce_renamed_packages()
