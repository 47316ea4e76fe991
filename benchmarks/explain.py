"""What a map costs beside the answer that it explains; all ratios from one run.

    .venv/bin/python benchmarks/explain.py [--out FILE]

Weights are random and images are noise: neither changes the time. Ways take turns; what holds is the ratio to the
forward pass, taken round by round.
"""

import argparse
from pathlib import Path

from rounds import group, keep, machine

SETTINGS = {"resnet18": 128, "densenet201": 64}  # full size, pixels
BATCH, BATCHES = 16, 2
SLOW = 4  # images of the methods that pass through the network many times


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rounds", type=int, default=7)
    ask.add_argument("--out", type=Path)
    given = ask.parse_args()
    aims = [("Grad-CAM", "forward pass alone", 1 / 1.08)]
    groups = [
        group(f"{name}, {pixels} px, batches of {BATCH}", ways(name, pixels), given.rounds, aims)
        for name, pixels in SETTINGS.items()
    ]
    keep(machine() | {"groups": groups}, given.out)


def ways(name: str, pixels: int) -> dict:
    """The forward pass alone, ours at the trunk's own layer, captum's call by itself over weights that learn, and
    the methods of many passes.
    """
    import torch
    from captum.attr import LayerGradCam

    from pneumo_utils import explain
    from pneumo_utils.models import heads
    from pneumo_utils.models.blocks import with_head
    from pneumo_utils.models.create import trunk

    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = trunk(name, size="full", seed=0)
    net = with_head(made, heads.two_hidden_layers(made.about.channels, 2, seed=0)).to(device).eval()
    images = torch.randn(BATCH * BATCHES, 3, pixels, pixels, generator=torch.Generator().manual_seed(0)).to(device)
    batches = images.split(BATCH)

    def forward():
        with torch.no_grad():
            return [net(batch).cpu() for batch in batches]

    def by_captum():
        plain = LayerGradCam(net, net.get_submodule(net.about.cam_layer))
        return [plain.attribute(batch, target=1).cpu() for batch in batches]

    def ours(method, images=batches):
        return lambda: explain.saliency_maps(net, images, method)

    return {
        "forward pass alone": (len(images), forward),
        "Grad-CAM": (len(images), ours("gradcam")),
        "Grad-CAM++": (len(images), ours("gradcam++")),
        "captum's LayerGradCam by itself": (len(images), by_captum),
        "saliency": (len(images), ours("saliency")),
        "integrated gradients": (SLOW, ours("integrated gradients", [images[:SLOW]])),
    }


if __name__ == "__main__":
    main()
