"""What chapters' runs say of claims: the link from a `results.json` or a kept record to the second verdict."""

from collections.abc import Sequence

KINDS = ("phantom", "real")


def gather(runs: Sequence[dict]) -> dict[str, dict[str, dict]]:
    """Kind of data -> claim id -> evidence, phantoms and real radiographs apart.

    Where several runs on one kind speak of a claim, one at the paper's settings has the word; then a kept record, which
    was made by hand to be longer than the run behind the book and so has narrower intervals; then the one that was
    finished last. The widths themselves do not choose: the narrowest of several intervals is too often one that came
    out narrow by luck. Numbers that are undefined say nothing.
    """
    found: dict[str, dict[str, dict]] = {kind: {} for kind in KINDS}
    for run in sorted(runs, key=_weight):
        kind = "real" if run["real"] else "phantom"
        for claim_id, numbers in run["claims"].items():
            # a word stands where a number is undefined
            if not all(isinstance(each, (int, float)) for each in numbers.values()):
                continue
            # a record's own may be gone from the page
            section = run.get("sections", {}).get(claim_id) or run.get("verdicts", "")
            found[kind][claim_id] = numbers | {
                "data": kind,
                "tier": run["tier"],
                "chapter": run["chapter"],
                "record": run.get("record", ""),
                "section": section,
            }
    return found


def _weight(run: dict) -> tuple[bool, bool, str]:
    return run["tier"] == "paper", "record" in run, run.get("finished", "")
