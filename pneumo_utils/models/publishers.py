"""Who publishes a network: how it is built, and where its official weights are."""

import warnings
from dataclasses import dataclass
from functools import cached_property

from huggingface_hub import hf_hub_url
from torch import nn

from pneumo_utils.models.darknet import darknet19

ON_HUB = "model.safetensors"  # timm's files on the Hugging Face hub


@dataclass(frozen=True)
class Source:
    """A file of official weights: its address, and the repository of the Hugging Face hub where it is one of those."""

    url: str
    hub: str = ""

    @property
    def file(self) -> str:
        """A name that tells it from others; on the hub all are called alike."""
        return f"{self.hub.rpartition('/')[2]}.safetensors" if self.hub else self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Torchvision:
    """A network published by torchvision."""

    name: str
    weights: str = "IMAGENET1K_V1"  # those that there were when the papers were written

    def build(self, classes: int) -> nn.Module:
        """Build the network with random weights."""
        from torchvision import models

        return models.get_model(self.name, weights=None, num_classes=classes)

    @property
    def source(self) -> Source:
        """Return the source of the official weights."""
        from torchvision import models

        return Source(models.get_model_weights(self.name)[self.weights].url)


@dataclass(frozen=True)
class Timm:
    """A network published by timm."""

    name: str

    @cached_property
    def timm(self):
        """Import timm when it is first needed, without its warning about widgets."""
        with warnings.catch_warnings():  # its progress bars complain of widgets that nothing here shows
            warnings.filterwarnings("ignore", "IProgress not found")
            import timm
        return timm

    def build(self, classes: int) -> nn.Module:
        """Build the network with random weights."""
        return self.timm.create_model(self.name, num_classes=classes)

    @property
    def source(self) -> Source:
        """Return the source of the official weights."""
        published = self.timm.get_pretrained_cfg(self.name)
        return (
            Source(hf_hub_url(published.hf_hub_id, ON_HUB), published.hf_hub_id)
            if published.hf_hub_id
            else Source(published.url)
        )


@dataclass(frozen=True)
class Darknet:
    """Written in `darknet.py`; the weights are those of its authors."""

    source: Source = Source("https://pjreddie.com/media/files/darknet19.weights")

    def build(self, classes: int) -> nn.Module:
        """Build Darknet-19 with random weights."""
        return darknet19(classes)
