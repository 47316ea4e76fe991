"""Check every number and comparison that the papers print, on paper and by reruns."""

from pneumo_utils.claims.ledger import load_ledger

__all__ = ["load_ledger"]
