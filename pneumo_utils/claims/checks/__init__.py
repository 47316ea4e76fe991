"""The judges: small named functions, `judge(claim, ledger, **args) -> Finding`, one file a way of judging."""

from pneumo_utils.claims.checks import (
    against_public,
    arithmetic,
    baselines,
    batches,
    closeness,
    comparing,
    confusion,
    counting,
    floors,
    formulas,
    gains,
    plain,
    statements,
    tables,
)

ROOMS = (
    against_public,
    arithmetic,
    baselines,
    batches,
    closeness,
    comparing,
    confusion,
    counting,
    floors,
    formulas,
    gains,
    plain,
    statements,
    tables,
)
JUDGES = {name: judge for room in ROOMS for name, judge in room.judges.items()}
