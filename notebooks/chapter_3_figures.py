"""Tables, figures and the answer of chapter 3."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import pneumo_utils as pu
from notebooks.chapter_3 import (
    CLASSES,
    FEW,
    GENERATORS,
    frechet_distance,
    nearest,
    trunk_features,
)
from pneumo_utils.claims import recompute
from pneumo_utils.claims.decision import CONTRADICTED, EQUIVALENT, SUPPORTED
from pneumo_utils.claims.rules import read_margins
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.evaluation.baselines import grey_pixels, linear_probe
from pneumo_utils.evaluation.metrics import log_loss
from pneumo_utils.evaluation.scores import format_ci, metric_values
from pneumo_utils.plots.comparison import run_scores_table, strip_plot
from pneumo_utils.plots.style import BLUE, GREY, ORANGE, new_figure

PROBES = {
    "32 x 32 pixels": lambda train, test, size: grey_pixels(train, test),
    "fine detail": lambda train, test, size: linear_probe("fine detail", train, test, size),
    "borders": lambda train, test, size: linear_probe("borders", train, test, size),
}


def quality_rows(run, images: Cohort, children: Cohort, floor: dict[tuple, float]) -> tuple[list[dict], str]:
    """Return the rows of the table of quality, generators beside images of children in their place; and a sentence."""
    learned, test = (children.where((children.table["split"] == "test") == held) for held in (False, True))
    of_class = {
        kind: {
            "learned": learned.where(learned.table["labels"] == kind),
            "test": test.where(test.table["labels"] == kind),
        }
        for kind in CLASSES
    }
    features = {(kind, part): trunk_features(each, 64) for kind in CLASSES for part, each in of_class[kind].items()}
    auroc_of = {name: auroc for pair, auroc in floor.items() for name in pair}
    rows, distances, nearer = [], {}, 0

    def add(name, kind, seen, far, auroc=None):
        distance = distances[name] = frechet_distance(seen, features[kind, "test"])
        run.result(f"Fréchet distance: {name}", distance, note="to test images of its class")
        if far is not None:
            run.result(f"distance to the nearest training image: {name}", far, note="grey levels, root mean square")
        rows.append(
            {
                "images": name,
                "classes told apart by networks trained on children, AUROC": "" if auroc is None else f"{auroc:.3f}",
                "Fréchet distance": f"{distance:.2f}",
                "to the nearest training image": "" if far is None else f"{far:.1f}",
            }
        )

    for kind, other in zip(CLASSES, reversed(CLASSES)):
        add(f"{kind} children that were learned from", kind, features[kind, "learned"], None)
        add(f"{other} children in their place", kind, features[other, "test"], None)
        far = nearest(of_class[kind]["test"], of_class[kind]["learned"])[1].mean()
        rows[-2]["to the nearest training image"] = f"{far:.1f} (test images)"
        run.result(f"distance to the nearest training image: {kind} test images", far, note="grey levels")
        for name in (name for name in GENERATORS if name.startswith(kind)):
            made = images.where(images.table["labels"] == name)
            from_made = nearest(made, of_class[kind]["learned"])[1].mean()
            nearer += from_made < far
            add(name, kind, trunk_features(made, 64), from_made, auroc_of[name])
    farther = sum(
        distances[name] > distances[f"{other} children in their place"]
        for kind, other in zip(CLASSES, reversed(CLASSES))
        for name in GENERATORS
        if name.startswith(kind)
    )
    sentence = (
        f"By Fréchet distance {farther} of {len(GENERATORS)} generators are farther from test images of their class "
        "than children of the other class are: what they make can be told from children. Their images show the class "
        f"all the same, by the first column. The images of {nearer} generators are nearer to training images, on "
        "average, than test images are."
    )
    return rows, sentence


def fit_probes(calls: dict[str, dict], children: Cohort, size: int) -> dict[str, dict[str, list]]:
    """Return the predictions of linear probes by probe and question: one for each pair, and one for the children."""
    found: dict[str, dict[str, list]] = {}
    for name, fit in PROBES.items():
        found[name] = {}
        for key, call in calls.items():
            train, test = call["cohort"].part("train"), call["cohort"].part("test")
            found[name].setdefault(key.partition(": ")[0], []).append(fit(train, test, size))
            if key.startswith("two classes"):
                on_children = fit(train, children.part("test"), size)
                found[name].setdefault("two classes, asked about children", []).append(on_children)
        found[name]["children"] = [fit(children.part("train"), children.part("test"), size)]
    return found


def pair_rows(run, answers: dict[str, list], probes: dict[str, dict[str, list]]) -> list[dict]:
    """Return the rows of the decisive table: one for each question, with Xception and the linear models."""
    rows = []
    for question, each in answers.items():
        row = {"what is told apart": f"{question} ({len(each)})"}
        by_model = {"Xception": each} | {name: found.get(question, []) for name, found in probes.items()}
        for name, predicted in by_model.items():
            if not predicted:
                continue
            values = metric_values(predicted, "auroc")
            interval = pu.mean_ci(values) if len(values) > 1 else pu.compute_score(predicted[0], "auroc").claim
            run.result(
                f"told apart, {question}: {name}", *interval, baseline=0.5, note=f"AUROC, {len(values)} trainings"
            )
            row[name] = format_ci(*interval)
        for name in ("Xception", "fine detail"):
            accuracy = metric_values(by_model[name], "accuracy")
            threshold_fits = "asked about" not in question  # else .5 is the threshold of other images
            row[f"accuracy, {name}"] = f"{accuracy.mean():.3f}" if threshold_fits else ""
        rows.append(row)
    return rows


def pair_plot(answers: dict[str, list], probes: dict[str, dict[str, list]]) -> tuple[Figure, str]:
    """Plot AUROC of each pair: Xception, and the linear model on small images in grey."""
    scores, simple = {}, []
    for question, each in answers.items():
        for name, predicted in ((question, each), (f"{question}: pixels", probes["32 x 32 pixels"].get(question, []))):
            if predicted:
                scores[name] = {"auroc": metric_values(predicted, "auroc")}
                simple += [name] * name.endswith("pixels")
    return strip_plot(run_scores_table(scores, simple), ["auroc"])


def table_1(trainings: list, batch_size: int = 32) -> dict[str, dict[str, np.ndarray]]:
    """Return the metrics of the paper's table, a number a fold: averaged over batches, and from all answers at once."""
    metrics = ("recall", "precision", "accuracy")
    batches = [
        recompute.batch_average(
            each.truth, (each.probabilities[:, 1] > 0.5).astype(int), min(batch_size, len(each.truth))
        )
        for each in trainings
    ]
    return {
        "batches": {metric: np.array([each[metric] for each in batches]) for metric in metrics},
        "right": {"loss": np.array([log_loss(each).mean() for each in trainings])}
        | {metric: metric_values(trainings, metric) for metric in metrics},
    }


def table_1_rows(run, columns: dict, ledger, overlap: float) -> list[dict]:
    """Return the rows of table 1: our folds and their mean, and the paper's, training / validation."""
    heads = [("loss", "right")] + [
        (metric, how) for metric in ("recall", "precision", "accuracy") for how in ("batches", "right")
    ]
    rows = []
    n_folds = len(columns["test"]["right"]["loss"])
    title = {head: head[0] + (", batches" if head[1] == "batches" else "") for head in heads}
    for fold in range(n_folds):
        row = {"fold": f"here, {fold + 1}"}
        for metric, how in heads:
            row[title[metric, how]] = " / ".join(
                f"{columns[part][how][metric][fold]:.4f}" for part in ("train", "test")
            )
        rows.append(row)
    row = {"fold": "here, mean (validation)"}
    for metric, how in heads:
        mean = pu.mean_ci(columns["test"][how][metric], 0, np.inf if metric == "loss" else 1, overlap)
        note = "mean over batches in class order" if how == "batches" else "of all answers at once"
        run.result(f"table 1, validation {metric}, {how}", *mean, note=f"{note}, mean of {n_folds} folds")
        row[title[metric, how]] = format_ci(*mean)
    rows.append(row)
    for fold in range(1, ledger.value("p3-folds") + 1):
        row = {"fold": f"paper, {fold}"}
        for metric, how in heads:
            printed = [ledger[f"p3-f{fold}-{part}-{metric}"].printed for part in ("train", "val")]
            row[title[metric, how]] = " / ".join(printed) if how == "batches" or metric == "loss" else ""
        rows.append(row)
    row = {"fold": "paper, mean (validation)"}
    for metric, how in heads:
        row[title[metric, how]] = ledger[f"p3-mean-{metric}"].printed if how == "batches" or metric == "loss" else ""
    return [*rows, row]


def perfect_recall(run, ledger) -> str:
    """Say which recall a model that is never wrong gets at the published counts, beside the paper's."""
    labels = recompute.labels_in_class_order(ledger.value("p3-normal"), ledger.value("p3-pneumonia"))
    batches = ledger.value("p3-train-batch"), ledger.value("p3-validation-batch")
    recalls = recompute.perfect_predictor_recall(labels, *batches, ledger.value("p3-folds"))
    first = recalls[(recalls["fold"] == 1) & (recalls["part"] == "validation")]["batch average"].iloc[0]
    run.result("recall of a model that is never wrong, averaged over batches", first, note="published counts, fold 1")
    return (
        f"**At the published counts, a model that is never wrong has a recall of {first:.4f} in fold 1, averaged over "
        f"batches in class order. The paper prints {ledger['p3-f1-val-recall'].printed}.**"
    )


def fold_rows(run, everyone: dict[str, list], overlap: float) -> list[dict]:
    """Return the rows of the cross-validation: the network after each phase, and the baselines."""
    names = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}
    rows = []
    for name, each in everyone.items():
        row = {"model": name}
        for metric, title in names.items():
            mean = pu.mean_ci(metric_values(each, metric), overlap=overlap)
            run.result(f"cross-validation, {name}: {metric}", *mean, note=f"mean of {len(each)} folds")
            row[title] = format_ci(*mean)
        rows.append(row)
    return rows


def align_phases(history: pd.DataFrame, phases: list[tuple]) -> pd.DataFrame:
    """Return one row for each planned epoch; a phase that stopped early keeps its last values."""
    parts = []
    for number, (_, epochs, _) in enumerate(phases, 1):
        rows = history[history["phase"] == number].select_dtypes("number")
        parts.append(rows.iloc[[min(index, len(rows) - 1) for index in range(epochs)]])
    aligned = pd.concat(parts, ignore_index=True)
    return aligned.assign(epoch=np.arange(1, len(aligned) + 1))


def shortage_plot(helped: dict[str, list], pixels: dict[str, list]) -> tuple[Figure, str]:
    """Plot AUROC over the number of children: alone, after generated images, and a linear model on small images."""
    figure, axes = new_figure(4.2)
    lines, places = [], np.arange(len(FEW))
    for (name, key, source), (colour, mark, line) in zip(
        (
            ("children alone", "{} real", helped),
            ("generated images, then children", "generated, then {} real", helped),
            ("32 x 32 pixels of the children", "{} real, 32 x 32 pixels", pixels),
        ),
        ((BLUE, "o", "-"), (ORANGE, "s", "-"), (GREY, "^", "--")),
    ):
        values = [metric_values(source[key.format(number)], "auroc") for number in FEW]
        means = [each.mean() for each in values]
        axes.plot(places, means, line, color=colour, marker=mark, markersize=8, linewidth=2.4, label=name)
        for place, each in zip(places, values):
            axes.scatter(np.full(len(each), place), each, s=22, color=colour, alpha=0.5, linewidth=0)
        lines.append(f"{name}: " + ", ".join(f"{mean:.3f} from {number}" for mean, number in zip(means, FEW)))
    axes.set_xticks(places, [str(number) for number in FEW])
    axes.set(xlabel="children that are learned from", ylabel="AUROC")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=1)
    return figure, f"AUROC on test children by the number of children that are learned from. {'; '.join(lines)}."


def shortage_rows(run, helped: dict[str, list], pixels: dict[str, list]) -> tuple[dict, list[dict]]:
    """Return what generated images add by number of children, and the rows of the table."""
    gains, rows = {}, []
    for name in [key for key in helped if key.endswith("real") and not key.startswith("generated")]:
        after = f"generated, then {name}"
        gain = pu.compare_models(helped[after], helped[name], "auroc")
        run.result(f"generated images add, {name}", *gain.claim, note="AUROC, paired by draw")
        gains[name] = gain
        row = {"children": name.removesuffix(" real")}
        for title, each in {
            "children alone": helped[name],
            "generated, then children": helped[after],
            "32 x 32 pixels": pixels.get(f"{name}, 32 x 32 pixels"),
        }.items():
            row[title] = format_ci(*pu.mean_ci(metric_values(each, "auroc"))) if each else ""
        rows.append(row | {"generated images add": format_ci(*gain.claim)})
    alone = format_ci(*pu.mean_ci(metric_values(helped["generated alone"], "auroc")))
    rows.append({"children": "0", "generated, then children": alone})
    return gains, [{key: row.get(key, "") for key in rows[0]} for row in rows]


def advise_on_generated(verdicts: dict[str, str]) -> str:
    """Say what follows for accuracy on generated images.

    verdicts: by model, the verdict on whether it tells the same class apart as well as two classes.
    """
    alike = [name for name, verdict in verdicts.items() if verdict in (SUPPORTED, EQUIVALENT)]
    if alike:
        return (
            "Do not read an accuracy on generated images as knowledge of a disease. Two generators of one class are "
            f"told apart as well as those of two classes, by {' and by '.join(alike)}."
        )
    if set(verdicts.values()) == {CONTRADICTED}:
        return (
            "Generators of one class are told apart less well than those of two classes. Still test on real images "
            "before you speak of a disease."
        )
    return "Test on real images before you speak of a disease."


def give_answer(run, answers: dict, probes: dict, quality_floor: float, columns: dict, gains: dict, claims) -> None:
    """Fill in the box below the title: the answer of this run in sentences, numbers, verdicts, and advice."""
    known = {name: metric_values(each, "auroc") for name, each in answers.items() if len(each) > 1}
    mean = {name: format_ci(*pu.mean_ci(values)) for name, values in known.items()}
    sentences, advice = [], ""
    if {"two classes", "same class", "same generator"} <= mean.keys():
        alike = {
            "Xception": ("same class >= two classes", "told apart", "auroc"),
            "a linear model on fine detail": ("same class >= two classes", "told apart, fine detail", "auroc"),
        }
        fine = {
            name: f"{metric_values(probes['fine detail'][name], 'auroc').mean():.3f}"
            for name in ("two classes", "same class")
        }
        sentences += [
            f"Xception tells a normal from a pneumonia generator with an AUROC of {mean['two classes']}, two "
            f"generators of the *same* class with {mean['same class']}, and two samples of one generator with "
            f"{mean['same generator']}.",
            f"A linear model that sees fine detail alone has {fine['two classes']} for two classes and "
            f"{fine['same class']} for the same class.",
            *(
                f"Does {name} tell the same class apart as well as two classes, to within "
                f"{read_margins()['auroc'].value:g}? Then it can reach 99.8 % without knowing pneumonia. "
                f"{run.tell(*question)}"
                for name, question in alike.items()
            ),
        ]
        advice = advise_on_generated(
            {name: run.ask(*question, of=run.evidence).verdict for name, question in alike.items()}
        )
    else:
        sentences.append(
            f"Too few generators reach the quality floor, an AUROC of {quality_floor}, to answer the question."
        )
        advice = "Train better generators before anything is concluded from them."
    if "two classes, asked about children" in mean:
        sentences.append(
            f"Asked about children, networks trained on generated images have an AUROC of "
            f"{mean['two classes, asked about children']}; networks trained on children have {mean['children']}."
        )
    right, batches = (columns["test"][how]["recall"].mean() for how in ("right", "batches"))
    never_wrong = run.results["recall of a model that is never wrong, averaged over batches"]["value"]
    beats = "Xception > 32 x 32 pixels", "cross-validation", "auroc", "fold"
    sentences.append(
        f"Is Xception better than a linear model on 32 x 32 pixels, in the paper's five folds? {run.tell(*beats)}"
    )
    sentences.append(
        f"What may explain a recall of about .226 beside 99.8 %? An average over batches in class order, in which each "
        f"batch without pneumonia counts as 0. So computed, a model that is never wrong has {never_wrong:.4f} at the "
        f"paper's counts, and our Xception {batches:.3f}; computed over all images, its recall is {right:.3f}."
    )
    added = "; ".join(f"{name.removesuffix(' real')} children {format_ci(*gain.claim)}" for name, gain in gains.items())
    sentences.append(
        f"What generated images add to the AUROC of a few children, where the generators learned from many: {added}."
    )
    results = {
        f"AUROC, {question}": f"told apart, {question}: Xception"
        for question in ("two classes", "same class", "same generator", "children", "two classes, asked about children")
    }
    results |= {"AUROC, same class, fine detail alone": "told apart, same class: fine detail"}
    results |= {f"generated images add, {name}": f"generated images add, {name}" for name in gains}
    run.answer(sentences, results, claims, advice)
