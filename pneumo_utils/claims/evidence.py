"""What chapters' runs say of claims: the link from a `results.json` to the second verdict."""


def gather(results: list[dict]) -> dict[str, dict]:
    """Claim id -> evidence; where several runs speak of one claim, that on real data at the paper's settings has the word, then the last."""
    found: dict[str, dict] = {}
    for run in sorted(results, key=_weight):
        for claim_id, numbers in run["claims"].items():
            found[claim_id] = numbers | {"data": "real" if run["real"] else "phantom", "tier": run["tier"], "chapter": run["chapter"]}
    return found


def _weight(run: dict) -> tuple[bool, bool]:
    return run["real"], run["tier"] == "paper"
