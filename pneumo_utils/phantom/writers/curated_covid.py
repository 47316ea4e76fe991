"""Write a release like Curated COVID-19: four classes in a doubled folder.

A part of the images are children of the Kermany release again, in another size and quality.
"""

from pneumo_utils.phantom.writers.writer import Desk, jpeg, stretched

FOLDERS = {"covid": "COVID-19", "normal": "Normal", "bacterial": "Pneumonia-Bacterial", "viral": "Pneumonia-Viral"}
HOME = "Curated X-Ray Dataset/Curated X-Ray Dataset"
CHILDREN = 0.35  # fraction of the images without COVID-19
QUALITY = 80


def write(desk: Desk) -> None:
    """Write the release.

    writer: the writer of the release.
    """
    adults, children = desk.population("covid"), desk.population("children")
    table = adults.table(range(desk.images))
    from_kermany = round(CHILDREN * (table["cause"] != "covid").sum())
    replaced = set(table.index[table["cause"] != "covid"][-from_kermany:])
    counter = dict.fromkeys(FOLDERS, 0)

    def make_names(causes) -> dict[int, str]:
        names = {}
        for index, cause in causes.items():
            counter[cause] += 1
            names[index] = f"{FOLDERS[cause]}/{FOLDERS[cause]} ({counter[cause]}).jpg"
        return names

    adult_names = make_names(table["cause"].drop(list(replaced)))
    # the first children of the Kermany release with the same seed
    child_names = make_names(children.table(range(from_kermany))["cause"])
    for population, names in ((adults, adult_names), (children, child_names)):
        for index, pixels, _, _ in desk.shoot(population, names, "curated_covid"):
            side = round(desk.size * desk.random.uniform(1.0, 1.3))
            desk.bytes(
                f"{HOME}/{names[index]}",
                jpeg(stretched(pixels, side, side), colour=desk.random.random() < 0.5, quality=QUALITY),
            )
