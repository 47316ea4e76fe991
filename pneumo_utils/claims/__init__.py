"""Check every number and comparison that the papers print, on paper and by reruns."""

from pneumo_utils.claims.ledger import Claim, Ledger, Paper, load_ledger
from pneumo_utils.claims.verdicts import check_on_paper, scoreboard

__all__ = ["Claim", "Ledger", "Paper", "check_on_paper", "load_ledger", "scoreboard"]
