"""What a judge hands back: a verdict, and the reason for it in a sentence."""

from dataclasses import dataclass

ON_PAPER = ("consistent", "inconsistent", "unverifiable")
RERUN = ("reproduced", "not reproduced", "not tested here")


@dataclass(frozen=True)
class Finding:
    """The verdict of a judge on one claim, with the reason in one sentence."""

    verdict: str
    because: str  # one sentence with the numbers that decide, for a reader

    def __post_init__(self):
        if self.verdict not in ON_PAPER + RERUN:
            raise ValueError(f"{self.verdict!r} is no verdict")
