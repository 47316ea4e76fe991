"""Are the pocket weights worth having? Against the same trunks at random, frozen and fine-tuned, on phantom and on real
children.

python benchmarks/pocket_weights.py [NAME ...] [--real DIR] [--way frozen|fine-tuned] [--out
book/records/pocket_weights.json]

The protocol was fixed before any figure was seen:

- Images are 64 px; the question is normal against pneumonia. Phantom children are 1,200 of the population with seed
424242; real children are
  all of DIR, a folder in the layout of Kermany et al. The recipe of the weights was judged on other data alone:
  phantoms of other seeds, and adults.
- For each of ten seeds 200 labelled images are drawn, and 800 images of other children are the test: the same for all
that is compared.
- Frozen: the trunk's maps, averaged over the image, are standardised and given to scikit-learn's logistic regression (C
= .01, balanced).
  Against the pocket weights stands the same trunk with weights drawn anew for each seed. Mean and deviation of the
  image, and 32 x 32 grey
  pixels, are beside them under the same regression.
- Fine-tuned: all of the trunk and a linear head learn from the 200 images, batches of 16, Adam with one cycle up to
2e-3, 8 epochs,
  mirrored at random; from the pocket weights, and from the seed's random ones.
- Measures are AUROC and balanced accuracy. Differences are paired by seed, with 95 % intervals by Student's t over the
ten seeds.

VGG16 was pre-trained a second time after its first phantom figure had been seen, because it had learned no categories;
the change was judged by its losses on drawn images. Darknet was pre-trained a second time before any test. What was
measured before is kept in the record: names given anew replace their own rows.
"""

import argparse
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy

from pneumo_utils.common import run_paths
from pneumo_utils.common.files import read_json, write_json
from pneumo_utils.data.readers import kermany
from pneumo_utils.models.blocks import Chain
from pneumo_utils.models.create import trunk
from pneumo_utils.models.registry import trunk_names
from pneumo_utils.phantom.population import Population

SEEDS, LABELS, TEST, SIZE = 10, 200, 800, 64
PHANTOMS, POPULATION = 1200, 424242
BATCH, RATE, EPOCHS = 16, 2e-3, 8
RECORD = Path(__file__).parents[1] / "book" / "records" / "pocket_weights.json"


class Children:
    """Images, who is ill, and whose they are."""

    def __init__(self, name: str, images: np.ndarray, ill: np.ndarray, patients: np.ndarray):
        self.name, self.images, self.ill, self.patients = name, torch.as_tensor(np.asarray(images)), ill, patients

    def draw(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows to learn from and rows to test on, of different children."""
        random = np.random.default_rng(seed)
        order = random.permutation(np.unique(self.patients))
        counts = pd.Series(self.patients).value_counts()[order].cumsum().to_numpy()
        test = np.flatnonzero(np.isin(self.patients, order[: np.searchsorted(counts, TEST) + 1]))
        others = np.setdiff1d(np.arange(len(self.patients)), test)
        return random.choice(others, LABELS, replace=False), random.permutation(test)[:TEST]


def phantoms() -> Children:
    people, table = (
        Population("children", seed=POPULATION),
        Population("children", seed=POPULATION).table(range(PHANTOMS)),
    )
    images = torch.cat(
        [people.render(range(at, min(at + 50, PHANTOMS)), size=SIZE).image.cpu() for at in range(0, PHANTOMS, 50)]
    )
    return Children(
        "phantom children",
        images.numpy(),
        (table["cause"] != "normal").to_numpy().astype(int),
        table["patient"].to_numpy(),
    )


def real(folder: Path) -> Children:
    cohort = kermany.read(folder, say=None)
    ill = (cohort.table["cause"] != "normal").to_numpy().astype(int)
    return Children("real children", cohort.pixels(SIZE)[:], ill, cohort.table["patient"].to_numpy())


def as_input(images: torch.Tensor, chain: Chain) -> torch.Tensor:
    mean, deviation = (torch.tensor(each).view(1, -1, 1, 1) for each in chain.about.stats)
    return ((images[:, None].float() / 255 - mean) / deviation).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def pooled(chain: Chain, images: torch.Tensor) -> np.ndarray:
    chain.eval().to(memory_format=torch.channels_last)
    return torch.cat([chain(as_input(part, chain)).mean((2, 3)) for part in images.split(100)]).numpy()


def measured(truth: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, float]:
    return {
        "auroc": float(roc_auc_score(truth, score)),
        "balanced accuracy": float(balanced_accuracy_score(truth, score > threshold)),
    }


def regressed(features: np.ndarray, children: Children, seed: int) -> dict[str, float]:
    learn, test = children.draw(seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
    model.fit(features[learn], children.ill[learn])
    return measured(children.ill[test], model.decision_function(features[test]), 0.0)


def tuned(chain: Chain, children: Children, seed: int) -> dict[str, float]:
    learn, test = children.draw(seed)
    torch.manual_seed(seed)
    net = nn.Sequential(chain, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(chain.about.channels, 2))
    net.to(memory_format=torch.channels_last).train()
    images, ill = as_input(children.images[learn], chain), torch.as_tensor(children.ill[learn])
    batches = -(-LABELS // BATCH)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        for rows in torch.randperm(LABELS).split(BATCH):
            mirrored = (torch.rand(len(rows)) < 0.5)[:, None, None, None]
            loss = cross_entropy(net(torch.where(mirrored, images[rows].flip(-1), images[rows])), ill[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
    net.eval()
    with torch.no_grad():
        margin = torch.cat([net(as_input(part, chain)) for part in children.images[test].split(100)]).diff(dim=1)[:, 0]
    return measured(children.ill[test], margin.numpy(), 0.0)


def baselines(children: Children) -> list[dict]:
    flat = children.images.float()
    known = {
        "mean and deviation": torch.stack([flat.mean((1, 2)), flat.std((1, 2))], 1).numpy(),
        "grey pixels at 32 x 32": avg_pool2d(flat[:, None], SIZE // 32).flatten(1).numpy(),
    }
    return [
        {
            "trunk": name,
            "way": "frozen",
            "weights": "none",
            "on": children.name,
            "seed": seed,
            **regressed(features, children, seed),
        }
        for name, features in known.items()
        for seed in range(SEEDS)
    ]


def frozen(name: str, children: Children) -> list[dict]:
    row = {"trunk": name, "way": "frozen", "on": children.name}
    held = pooled(trunk(name, weights="pocket"), children.images)
    rows = [{**row, "weights": "pocket", "seed": seed, **regressed(held, children, seed)} for seed in range(SEEDS)]
    for seed in range(SEEDS):
        held = pooled(trunk(name, size="pocket", seed=1000 + seed), children.images)
        rows.append({**row, "weights": "random", "seed": seed, **regressed(held, children, seed)})
    return rows


def fine(name: str, children: Children) -> list[dict]:
    starts = {
        "pocket": lambda seed: trunk(name, weights="pocket"),
        "random": lambda seed: trunk(name, size="pocket", seed=1000 + seed),
    }
    return [
        {
            "trunk": name,
            "way": "fine-tuned",
            "on": children.name,
            "weights": weights,
            "seed": seed,
            **tuned(start(seed), children, seed),
        }
        for weights, start in starts.items()
        for seed in range(SEEDS)
    ]


def interval(values) -> tuple[float, float, float]:
    """Mean, and the two ends of its 95 % interval by Student's t."""
    values = np.asarray(values, dtype=float)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def summary(rows: list[dict]) -> tuple[list[dict], list[dict]]:
    """Each way's mean with its interval, and the paired differences of pocket weights from random ones."""
    frame, means, differences = pd.DataFrame(rows), [], []
    for (on, way, name, weights), part in frame.groupby(["on", "way", "trunk", "weights"], sort=False):
        means.append(
            {
                "on": on,
                "way": way,
                "trunk": name,
                "weights": weights,
                "seeds": len(part),
                **{
                    measure: [round(each, 4) for each in interval(part[measure])]
                    for measure in ("auroc", "balanced accuracy")
                },
            }
        )
    for (on, way, name), part in frame[frame["weights"] != "none"].groupby(["on", "way", "trunk"], sort=False):
        by_seed = part.pivot(index="seed", columns="weights", values=["auroc", "balanced accuracy"])
        differences.append(
            {
                "on": on,
                "way": way,
                "trunk": name,
                "seeds": len(by_seed),
                **{
                    measure: [
                        round(each, 4) for each in interval(by_seed[measure]["pocket"] - by_seed[measure]["random"])
                    ]
                    for measure in ("auroc", "balanced accuracy")
                },
            }
        )
    return means, differences


def show(means: list[dict], differences: list[dict]) -> None:
    for title, rows in (("means", means), ("pocket less random, paired by seed", differences)):
        print(f"\n{title}")
        for row in rows:
            scores = "  ".join(
                f"{measure} {row[measure][0]:+.3f} ({row[measure][1]:+.3f} to {row[measure][2]:+.3f})"
                for measure in ("auroc", "balanced accuracy")
            )
            print(f"{row['on']:17} {row['way']:11} {row['trunk']:23} {row.get('weights', ''):7} {scores}")


def put(new: list[dict], out: Path) -> list[dict]:
    """Beside what was measured before, in place of what is measured anew; written at once, so that a run that stops
    loses little.
    """
    with run_paths.path_lock(out):
        old = read_json(out)["rows"] if out.exists() else []
        keys = {(row["on"], row["way"], row["trunk"]) for row in new}
        rows = [row for row in old if (row["on"], row["way"], row["trunk"]) not in keys] + new
        means, differences = summary(rows)
        settings = {
            "seeds": SEEDS,
            "labels": LABELS,
            "test images": TEST,
            "size": SIZE,
            "phantoms": PHANTOMS,
            "phantom seed": POPULATION,
            "batch": BATCH,
            "rate": RATE,
            "epochs": EPOCHS,
            "torch": torch.__version__,
            "device": "CPU",
            "date": date.today().isoformat(),
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, {"settings": settings, "means": means, "differences": differences, "rows": rows})
    return rows


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("names", nargs="*", metavar="NAME")
    ask.add_argument("--real", type=Path, help="a folder in the layout of Kermany et al.")
    ask.add_argument("--way", choices=("frozen", "fine-tuned"), help="only this; fine-tuning takes minutes a trunk")
    ask.add_argument("--out", type=Path, default=RECORD)
    given = ask.parse_args()
    cohorts = [phantoms(), *([real(given.real)] if given.real else [])]
    for children in cohorts:
        rows = put(baselines(children), given.out)
    for way, measure in (("frozen", frozen), ("fine-tuned", fine)):
        for children in cohorts if given.way in (None, way) else []:
            for name in given.names or trunk_names("pocket"):
                print(f"{children.name}: {name}, {way}", flush=True)
                rows = put(measure(name, children), given.out)
    show(*summary(rows))


if __name__ == "__main__":
    main()
