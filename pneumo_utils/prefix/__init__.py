"""The frozen prefix: what comes before the first layer that learns is computed once, and only what follows is
trained.
"""

from pneumo_utils.prefix.cached import cached, plan
from pneumo_utils.prefix.plan import Plan
from pneumo_utils.prefix.store import STORE, Store

__all__ = ["STORE", "Plan", "Store", "cached", "plan"]
