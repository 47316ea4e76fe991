"""The way without a cache: fastai opens each file anew."""


def from_files(paths: list, size: int, batch: int, valid: float = 0.0):
    """fastai's loaders of grey images, squeezed into a square as the package's own are, by this process alone."""
    from fastai.vision.all import ImageDataLoaders, PILImageBW, Resize

    return ImageDataLoaders.from_path_func(
        "",
        paths,
        lambda path: path.parent.name,
        bs=batch,
        item_tfms=Resize(size, method="squish"),
        img_cls=PILImageBW,
        valid_pct=valid,
        num_workers=0,
        device="cpu",
    )
