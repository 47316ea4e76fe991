"""Check every number and comparison that the papers print, on paper and by reruns."""

from pneumo_utils.claims.ledger import Claim, Ledger, Paper, load
from pneumo_utils.claims.verdicts import on_paper, rerun, scoreboard

__all__ = ["Claim", "Ledger", "Paper", "load", "on_paper", "rerun", "scoreboard"]
