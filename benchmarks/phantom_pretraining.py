"""Does a trunk that was trained on phantom children help on real children, over none?

    python benchmarks/phantom_pretraining.py --real DIR [--seeds 3] [--out book/records/phantom_pretraining.json]

DIR is a folder in the layout of Kermany et al. A ResNet18 is trained on phantoms alone, and then frozen: logistic
regression on its pooled features learns from 100 or 1,000 real images, drawn ten times, and is tested on other
children. The same trunk at its random start, and 32 x 32 grey pixels, stand beside it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cross_entropy
from torchvision.models import resnet18

from pneumo_utils.data.readers import kermany
from pneumo_utils.phantom.population import Population

SIZE, PHANTOMS, EPOCHS, BATCH = 64, 1600, 6, 32
LABELS, DRAWS, TEST = (100, 1000), 10, 800
CAUSES = ["normal", "bacterial", "viral"]


def phantoms(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    people = Population("children", seed=seed)
    images = torch.cat(
        [people.render(range(at, min(at + BATCH, PHANTOMS)), size=SIZE).image.cpu() for at in range(0, PHANTOMS, BATCH)]
    )
    return images, torch.tensor([CAUSES.index(cause) for cause in people.table(range(PHANTOMS))["cause"]])


def as_input(images) -> torch.Tensor:
    grey = torch.as_tensor(np.asarray(images)).float()[:, None]
    return ((grey - grey.mean((2, 3), keepdim=True)) / (grey.std((2, 3), keepdim=True) + 1)).expand(-1, 3, -1, -1)


def trained(seed: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The trunk at its start, and after the phantoms; it never meets a real image."""
    torch.manual_seed(seed)
    start, net = resnet18(num_classes=len(CAUSES)), resnet18(num_classes=len(CAUSES))
    net.load_state_dict(start.state_dict())
    images, causes = phantoms(1000 + seed)
    inputs, optimizer = as_input(images), torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=EPOCHS * (PHANTOMS // BATCH))
    for epoch in range(EPOCHS):
        net.train()
        for batch in torch.randperm(PHANTOMS)[: PHANTOMS // BATCH * BATCH].view(-1, BATCH):
            flip = inputs[batch].flip(-1) if torch.rand(()) < 0.5 else inputs[batch]
            loss = cross_entropy(net(flip), causes[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"seed {seed}, epoch {epoch + 1} of {EPOCHS}: loss {loss.item():.3f}", flush=True)
    return start, net


@torch.no_grad()
def features(net: torch.nn.Module, images) -> np.ndarray:
    net.eval()
    net.fc = torch.nn.Identity()
    return torch.cat([net(as_input(images[at : at + 128])) for at in range(0, len(images), 128)]).numpy()


def scores(held: np.ndarray, causes: np.ndarray, patients: np.ndarray, what: dict) -> list[dict]:
    """Each draw tests on about 800 images of children that the draw's training images are not of."""
    rows, ill = [], (causes > 0).astype(int)
    for labels in LABELS:
        for draw in range(DRAWS):
            random = np.random.default_rng([labels, draw])
            order = random.permutation(np.unique(patients))
            test = np.isin(patients, order[: int(len(order) * TEST / len(patients))])
            train = random.choice(np.flatnonzero(~test), labels, replace=False)
            for task, target in (("two classes", ill), ("three causes", causes)):
                model = make_pipeline(
                    StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
                ).fit(held[train], target[train])
                probabilities = model.predict_proba(held[test])
                area = (
                    roc_auc_score(target[test], probabilities[:, 1])
                    if task == "two classes"
                    else roc_auc_score(target[test], probabilities, multi_class="ovr")
                )
                rows.append(
                    {
                        **what,
                        "labels": labels,
                        "task": task,
                        "draw": draw,
                        "auroc": area,
                        "balanced accuracy": balanced_accuracy_score(target[test], model.predict(held[test])),
                    }
                )
    return rows


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--real", type=Path, required=True)
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument("--out", type=Path)
    given = ask.parse_args()
    cohort = kermany.read(given.real, say=None)
    causes = np.array([CAUSES.index(cause) for cause in cohort.table["cause"]])
    patients, images = cohort.table["patient"].to_numpy(), cohort.pixels(SIZE)[:]
    rows = scores(
        cohort.pixels(32)[:].reshape(len(cohort), -1).astype(np.float32),
        causes,
        patients,
        {"features": "grey pixels at 32 x 32", "seed": 0},
    )
    for seed in range(given.seeds):
        for name, net in zip(("random ResNet18", "ResNet18 from phantoms"), trained(seed)):
            rows += scores(features(net, images), causes, patients, {"features": name, "seed": seed})
    table = (
        pd.DataFrame(rows)
        .groupby(["features", "task", "labels"])[["auroc", "balanced accuracy"]]
        .agg(["mean", "std"])
        .round(3)
    )
    print(table.to_string())
    if given.out:
        rows = [
            {
                "features": f,
                "task": t,
                "labels": n,
                **{f"{metric} {part}": float(value) for (metric, part), value in row.items()},
            }
            for (f, t, n), row in zip(table.index, table.to_dict("records"))
        ]
        settings = {
            "size": SIZE,
            "phantoms": PHANTOMS,
            "epochs": EPOCHS,
            "seeds": given.seeds,
            "draws": DRAWS,
            "real images": len(cohort),
            "torch": torch.__version__,
            "device": "CPU",
        }
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
