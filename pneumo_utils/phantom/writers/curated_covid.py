"""Four classes in a doubled folder, a share of them children of the Kermany release again, in another size and
quality.
"""

from pneumo_utils.phantom.writers.writer import Desk, jpeg, stretched

FOLDERS = {"covid": "COVID-19", "normal": "Normal", "bacterial": "Pneumonia-Bacterial", "viral": "Pneumonia-Viral"}
HOME = "Curated X-Ray Dataset/Curated X-Ray Dataset"
CHILDREN = 0.35  # of all that is not COVID-19
QUALITY = 80


def write(desk: Desk) -> None:
    """Write the curated COVID-19 release, with images of the Kermany children among its classes."""
    adults, children = desk.population("covid"), desk.population("children")
    own = adults.table(range(desk.images))
    from_kermany = round(CHILDREN * (own["cause"] != "covid").sum())
    given_up = set(own.index[own["cause"] != "covid"][-from_kermany:])
    counter = dict.fromkeys(FOLDERS, 0)

    def named(causes) -> dict[int, str]:
        names = {}
        for index, cause in causes.items():
            counter[cause] += 1
            names[index] = f"{FOLDERS[cause]}/{FOLDERS[cause]} ({counter[cause]}).jpg"
        return names

    adult_names = named(own["cause"].drop(list(given_up)))
    # the first children of that release, seed for seed
    child_names = named(children.table(range(from_kermany))["cause"])
    for population, names in ((adults, adult_names), (children, child_names)):
        for index, pixels, _, _ in desk.shoot(population, names, "curated_covid"):
            side = round(desk.size * desk.random.uniform(1.0, 1.3))
            desk.bytes(
                f"{HOME}/{names[index]}",
                jpeg(stretched(pixels, side, side), colour=desk.random.random() < 0.5, quality=QUALITY),
            )
