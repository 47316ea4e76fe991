"""Anchors: the few shapes of box that a detector starts from, found by k-means with 1 - IoU as the distance (Redmon
and Farhadi 2016).
"""

import torch

ROUNDS = 100


def overlap(sizes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """IoU of every width and height (N, 2) with every other (M, 2), laid corner on corner."""
    shared = torch.minimum(sizes[:, None], others[None]).prod(-1)
    return shared / (sizes.prod(-1)[:, None] + others.prod(-1)[None] - shared)


def anchors(sizes: torch.Tensor, number: int, seed: int = 0) -> torch.Tensor:
    """So many widths and heights (number, 2), from the smallest to the largest, which the given ones (N, 2) lie
    about.
    """
    luck = torch.Generator().manual_seed(seed)
    centres = sizes[torch.randint(len(sizes), (1,), generator=luck)]
    while len(centres) < number:  # k-means++: the further from those chosen, the likelier
        away = 1 - overlap(sizes, centres).max(1).values
        centres = torch.cat([centres, sizes[torch.multinomial(away.clamp(min=1e-9) ** 2, 1, generator=luck)]])
    for _ in range(ROUNDS):
        nearest = overlap(sizes, centres).argmax(1)
        moved = torch.stack(
            [sizes[nearest == at].mean(0) if (nearest == at).any() else centres[at] for at in range(number)]
        )
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres[centres.prod(1).argsort()]
