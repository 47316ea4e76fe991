"""Every number and comparison that the papers print, and what becomes of each when it is checked."""

from pneumo_utils.claims.ledger import Claim, Ledger, Paper, load
from pneumo_utils.claims.verdicts import on_paper, rerun, scoreboard

__all__ = ["Claim", "Ledger", "Paper", "load", "on_paper", "rerun", "scoreboard"]
