"""Write a release like Curated COVID-19: four classes in a doubled folder.

A part of the images are children of the Kermany release again, in another size and quality.
"""

from pneumo_utils.phantom.writers.writer import ReleaseWriter, jpeg, resize_image

CLASS_FOLDERS = {
    "covid": "COVID-19",
    "normal": "Normal",
    "bacterial": "Pneumonia-Bacterial",
    "viral": "Pneumonia-Viral",
}
CURATED_FOLDER = "Curated X-Ray Dataset/Curated X-Ray Dataset"
CHILD_FRACTION = 0.35  # fraction of the images without COVID-19
CURATED_JPEG_QUALITY = 80


def write(writer: ReleaseWriter) -> None:
    """Write the release.

    writer: the writer of the release.
    """
    adults, children = writer.population("covid"), writer.population("children")
    table = adults.table(range(writer.images))
    from_kermany = round(CHILD_FRACTION * (table["cause"] != "covid").sum())
    replaced = set(table.index[table["cause"] != "covid"][-from_kermany:])
    counter = dict.fromkeys(CLASS_FOLDERS, 0)

    def make_names(causes) -> dict[int, str]:
        names = {}
        for index, cause in causes.items():
            counter[cause] += 1
            names[index] = f"{CLASS_FOLDERS[cause]}/{CLASS_FOLDERS[cause]} ({counter[cause]}).jpg"
        return names

    adult_names = make_names(table["cause"].drop(list(replaced)))
    # the first children of the Kermany release with the same seed
    child_names = make_names(children.table(range(from_kermany))["cause"])
    for population, names in ((adults, adult_names), (children, child_names)):
        for index, pixels, _, _ in writer.render_images(population, names, "curated_covid"):
            side = round(writer.size * writer.random.uniform(1.0, 1.3))
            writer.bytes(
                f"{CURATED_FOLDER}/{names[index]}",
                jpeg(
                    resize_image(pixels, side, side), colour=writer.random.random() < 0.5, quality=CURATED_JPEG_QUALITY
                ),
            )
