"""Check every number and comparison that the papers print, on paper and by reruns."""

from pneumo_utils.claims.ledger import Claim, Ledger, Paper, load_ledger
from pneumo_utils.claims.verdicts import check_on_paper, check_rerun, scoreboard

__all__ = ["Claim", "Ledger", "Paper", "check_on_paper", "check_rerun", "load_ledger", "scoreboard"]
