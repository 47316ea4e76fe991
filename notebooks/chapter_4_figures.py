"""The figures of chapter 4, and the tables that several of its results make up."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import pneumo_utils as pu
from notebooks.chapter_4 import CLASSES, PHASES, accuracies, without_copies
from pneumo_utils.claims.decision import CONTRADICTED, EQUIVALENT, SUPPORTED
from pneumo_utils.data import duplicates
from pneumo_utils.data.cohort import Cohort, random_split
from pneumo_utils.evaluation.comparison import Comparison, prediction_interval
from pneumo_utils.evaluation.scores import format_ci, metric_values
from pneumo_utils.plots.style import BLUE, DARK, GREEN, GREY, MIN_FONT_SIZE, ORANGE, PURPLE, join_parts, new_figure

STYLES = [(BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "D", "-."), (PURPLE, "v", ":"), (GREY, "^", "--")]
SOURCES = {"kermany": "the children's set", "curated_covid": "the curated set"}


def pair_rows(pool: Cohort, pairs: pd.DataFrame) -> pd.DataFrame:
    """Count pairs of images that are one picture, by the sets that they come from."""
    source = pool.table["source"]
    sets = pd.DataFrame({"one": source[pairs["one"]].to_numpy(), "other": source[pairs["other"]].to_numpy()})
    names = [SOURCES[name] for name in source.unique()]
    rows = []
    for index, one in enumerate(names):
        for other in names[index:]:
            both = sets.replace(SOURCES)
            here = ((both["one"] == one) & (both["other"] == other)) | ((both["one"] == other) & (both["other"] == one))
            bits = pairs["bits"][here.to_numpy()]
            rows.append(
                {
                    "the two images are in": f"{one} and {other}" if one != other else f"{one}, both",
                    "pairs": int(here.sum()),
                    "bits that differ: median, most": f"{bits.median():.0f}, {bits.max()}" if len(bits) else "",
                }
            )
    return pd.DataFrame(rows)


def seen_in_training(cohort: Cohort, pairs: pd.DataFrame) -> dict[str, float]:
    """Return the shares of the test images of which a copy, and another image of the patient, is in training."""
    table, tested = cohort.table, (cohort.table["split"] == "test").to_numpy()
    known = set(table.loc[(table["split"] == "train") & (table["patient"] != ""), "patient"])
    return {
        "a copy in training": float(duplicates.has_duplicate_in(cohort, pairs)[tested].mean()),
        "the patient in training": float(table["patient"][tested].isin(known).mean()),
    }


def show_pairs(run, pool: Cohort, pairs: pd.DataFrame, size: int) -> None:
    """Show four pairs of images that are one picture in both sets."""
    source = pool.table["source"]
    across = pairs[source[pairs["one"]].to_numpy() != source[pairs["other"]].to_numpy()]
    if across.empty:
        return
    chosen = across.iloc[np.linspace(0, len(across) - 1, 4).astype(int)]
    place = pd.Series(np.arange(len(pool)), index=pool.table.index)
    pictures = {side: np.asarray(pool.pixels(size)[place[chosen[side]].to_numpy()]) for side in ("one", "other")}
    figure, alt = pu.image_grid(
        {"children's set": pictures["one"], "curated set": pictures["other"]},
        {"curated set": [f"{count} bits apart" for count in chosen["bits"]]},
    )
    run.figure(
        figure,
        "copies",
        alt,
        "Four pictures of phantom children (above), and the same four in the curated set: in another size and quality, "
        "a few bits of the hash apart.",
    )


PRINTED = {
    "base frozen": ["p4-head-train", "p4-head-validation", "p4-head-test"],
    "top layers open": ["p4-tuned-train", "p4-tuned-validation", "p4-test-accuracy"],
}


def six_rows(run, six: dict[str, dict], gaps: dict[str, np.ndarray], ledger, overlap: float) -> list[dict]:
    """Return the rows of the paper's six accuracies beside ours, with the gaps of the finished networks.

    six: by phase, what `accuracies` returned.
    """
    rows = []
    for phase, found in six.items():
        for part, claim in zip(("training", "validation", "test"), PRINTED[phase]):
            interval = prediction_interval(found[part])
            run.result(f"{part} accuracy: {phase}", *interval, note="over splits; where one more would fall")
            row = {"after": phase, "accuracy": part, "paper": f"{ledger.value(claim) / 100:.3f}"}
            rows.append(row | {"here": format_ci(*interval)})
        gap = pu.mean_ci(gaps[phase], -1, overlap=overlap)
        run.result(f"gap of training over test accuracy: {phase}", *gap, note="finished network, over splits")
        row = {"after": phase, "accuracy": "finished training minus test", "paper": ""}
        rows.append(row | {"here": f"{format_ci(*gap)}, confidence interval"})
    return rows


def model_rows(run, models: dict[str, dict], split: str, metrics: list[str], overlap: float) -> list[dict]:
    """Return the rows of the table of test accuracy by split, and store all metrics as results.

    models: by model and by split, its predictions.
    split: the main split.
    """
    rows = []
    for name, by_split in models.items():
        row = {"model": name}
        for by, each in by_split.items():
            values = {metric: metric_values(each, metric) for metric in metrics}
            for metric in metrics:
                what = f"{name}: {metric}" if by == split else f"{name}, by {by}: {metric}"
                run.result(what, *prediction_interval(values[metric]), note="over splits; where one more would fall")
            row[f"accuracy, by {by}"] = format_ci(*pu.mean_ci(values["accuracy"], overlap=overlap))
            if by == split:
                row["AUROC"] = format_ci(*pu.mean_ci(values["auroc"], overlap=overlap))
        if {"image", "group"} <= by_split.keys():
            image, group = (metric_values(by_split[by], "accuracy") for by in ("image", "group"))
            difference = pu.paired_difference(image, group, overlap=overlap)
            run.result(f"accuracy by image minus by group: {name}", *difference.claim, note="over splits")
            row["by image minus by group"] = format_ci(*difference.claim)
        rows.append(row)
    return rows


def mistake_rows(
    run, mistakes: pd.DataFrame, printed: dict, pairs: dict[str, list], classes: dict[str, np.ndarray], overlap: float
) -> list[dict]:
    """Return the rows of the table of mistakes.

    mistakes: the kinds of mistakes as shares, a row for each split.
    printed: the same in the paper's matrix.
    pairs: by pair of classes, the predictions for these two.
    classes: by class, AUROC against the rest.
    """
    rows = []
    for what in mistakes:
        share = pu.mean_ci(mistakes[what], overlap=overlap)
        run.result(f"mistakes: {what}", *share, note="share of the test images, over splits")
        row = {"": what, "paper, share": f"{printed[what]:.3f}", "here, share": format_ci(*share)}
        if what in pairs:
            row["here, AUROC"] = format_ci(*pu.mean_ci(metric_values(pairs[what], "auroc"), overlap=overlap))
        rows.append(row)
    for name, values in classes.items():
        auroc = format_ci(*pu.mean_ci(values, overlap=overlap))
        rows.append({"": f"{name} against the rest", "here, AUROC": auroc})
    return rows


def explanation_rows(run, trainings: dict[str, list[dict]], overlap: float) -> tuple[list[dict], dict]:
    """Compare training and validation accuracy of trainings with one choice changed each.

    trainings: by what is changed, the trainings on all splits; the first are as in the paper.

    Returns the rows of the table; and by phase and choice, the change of validation minus training accuracy.
    """
    first, rows, changes = next(iter(trainings)), [], {}
    lead = {
        (name, phase): accuracies(each, phase)["validation"] - accuracies(each, phase)["training"]
        for name, each in trainings.items()
        for phase in (0, -1)
    }
    for phase, when in zip((0, -1), PHASES):
        for name, each in trainings.items():
            if name != first and np.array_equal(lead[name, phase], lead[first, phase]):
                continue  # a choice of the second phase, in the first
            found = accuracies(each, phase)
            above = pu.mean_ci(lead[name, phase], -1, overlap=overlap)
            finished = pu.mean_ci(found["validation"] - found["training, finished"], -1, overlap=overlap)
            run.result(f"validation minus training accuracy, {when}: {name}", *above, note="over splits")
            run.result(f"validation minus finished training accuracy, {when}: {name}", *finished, note="over splits")
            row = {"after": when, "training": name}
            row |= {
                f"{part} accuracy": f"{found[key].mean():.3f}"
                for part, key in {
                    "printed training": "training",
                    "finished training": "training, finished",
                    "validation": "validation",
                }.items()
            }
            row["validation minus printed training"] = format_ci(*above)
            if name != first:
                change = pu.paired_difference(lead[name, phase], lead[first, phase], overlap=overlap)
                changes[when, name] = change
                run.result(f"change of validation minus training, {when}: {name}", *change.claim, note="paired")
            row["change"] = format_ci(*changes[when, name].claim) if name != first else ""
            rows.append(row)
    return rows, changes


def explain_changes(changes: dict) -> list[str]:
    """Say for each phase which changes clearly alter the difference of validation and training accuracy.

    changes: by phase and what is changed, the difference.
    """
    sentences = []
    for phase in PHASES:
        here = {name: change for (when, name), change in changes.items() if when == phase}
        if not here:
            sentences.append(f"With the {phase}, no change alters the difference.")
            continue
        effects = {name: f"{name}, {format_ci(*change.claim)}" for name, change in here.items()}
        clear = [effects[name] for name, change in here.items() if change.better or change.worse]
        largest = effects[max(here, key=lambda name: abs(here[name].value))]
        sentences.append(
            f"With the {phase}, these changes clearly alter the difference: {'; '.join(clear)}."
            if clear
            else f"With the {phase}, none of {len(here)} changes ({', '.join(here)}) clearly alters the difference. "
            f"The largest effect: {largest}."
        )
    return sentences


EFFECTS = {
    "slope": "accuracy gained if all had a copy",
    "copied": "same images, copy in training minus out",
    "others": "images without a copy",
}


def leak_rows(run, effects: pd.DataFrame, order: list[str], overlap: float) -> tuple[list[dict], dict]:
    """Return the rows of the table of copies, and by model and kind of copy the slope with its interval.

    effects: what `leak_effects` returned, with columns model and kind, a row for each split.
    order: the models in the order of the table.
    """
    rows, slopes = [], {}
    for (model, kind), each in effects.groupby(["model", "kind"]):
        row = {"model": model, "copies": kind}
        for column, title in EFFECTS.items():
            interval = pu.mean_ci(each[column], -np.inf, np.inf, overlap)
            run.result(f"copies, {column}: {model}, {kind}", *interval, note=f"accuracy, {len(each)} splits")
            row[title] = format_ci(*interval)
            if column == "slope":
                slopes[model, kind] = interval
        rows.append(row)
    return sorted(rows, key=lambda row: (order.index(row["model"]), row["copies"])), slopes


def leak_plot(right: dict[tuple, dict[float, np.ndarray]], order: list[str]) -> tuple[Figure, str]:
    """Plot test accuracy by the share of test images that have a copy in training.

    right: by model, kind of copy and split: by share, whether each test image is answered rightly.
    order: the models in the order of the legend.
    """
    figure, panels = new_figure(3.2, 1, 2, sharex=True, sharey=True)
    lines = []
    for axes, kind in zip(panels, ("identical", "re-encoded")):
        for who, (colour, mark, line) in zip(order, STYLES):
            splits = [by_share for (model, of, _), by_share in right.items() if (model, of) == (who, kind)]
            shares = sorted(splits[0])
            mean = [float(np.mean([by_share[share].mean() for by_share in splits])) for share in shares]
            percent = [100 * share for share in shares]
            axes.plot(percent, mean, line, color=colour, marker=mark, linewidth=2.2, markersize=7, label=who)
            lines.append(f"{who}, {kind} copies: {mean[0]:.3f} with none and {mean[-1]:.3f} with the most")
        axes.set(title=f"{kind} copies")
    panels[0].set_ylabel("test accuracy")
    figure.supxlabel("test images with a copy in training, %", fontsize=MIN_FONT_SIZE)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, f"Test accuracy by the share of test images with a copy in training. {join_parts(lines)}."


def without_copies_plot(curves: dict[str, tuple], printed: float) -> tuple[Figure, str]:
    """Plot what a printed accuracy would be without copies, by the share of copies.

    curves: by name, the shares and the accuracies in percent, and the limits of their intervals or None.
    printed: the accuracy in percent.
    """
    figure, axes = new_figure(3.9)
    lines = []
    for (name, (shares, values, low, high)), (colour, mark, line) in zip(curves.items(), STYLES):
        axes.plot(100 * shares, values, line, color=colour, linewidth=2.4, label=name)
        if low is not None:
            axes.fill_between(100 * shares, low, high, color=colour, alpha=0.15, linewidth=0)
        lines.append(f"{name}: {values[-1]:.1f} % at a share of {100 * shares[-1]:.0f} %")
    axes.axhline(printed, color=DARK, linewidth=1.4, linestyle=":")
    axes.set(xlabel="test images with a copy in training, %", ylabel="accuracy without copies, %")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=1)
    return figure, f"What {printed} % would be without copies. {join_parts(lines)}."


def without_copies_curves(printed: float, training: float, slopes: dict[str, tuple]) -> dict[str, tuple]:
    """Return the curves of `without_copies_plot`: by measured slopes, and by two values of accuracy on copies.

    printed, training: the paper's test and training accuracy in percent.
    slopes: by network, the slope of accuracy over the share with its interval.
    """
    shares = np.linspace(0, 0.6, 25)
    curves = {}
    for name, (slope, low, high) in slopes.items():
        curves[f"measured: {name}"] = tuple(
            without_copies(printed, shares, 100 * each).clip(0, 100) for each in (slope, high, low)
        )
    curves["copies are answered like the paper's training images"] = (
        without_copies(printed, shares, of_copies=training),
        None,
        None,
    )
    curves["every copy is answered rightly"] = (without_copies(printed, shares, of_copies=100.0), None, None)
    return {name: (shares, *values) for name, values in curves.items()}


def naming_rows(losses: list[dict], errors: list[dict], rows: pd.DataFrame, counts: pd.DataFrame, overlap: float):
    """Return the rows of the table of the six namings.

    losses, errors: for each split, the loss of each naming, over all answers and over errors only.
    rows: what `audit_tables.row_namings` returns.
    counts: the printed matrix.
    """
    printed, total = ", ".join(CLASSES), int(counts.to_numpy().sum())
    table = []
    for entry in rows.to_dict("records"):
        name = entry["rows are"]
        row = {
            "rows are": name + (" (printed)" if name == printed else ""),
            "chi-squared": f"{entry['chi-squared']:.2f}",
        }
        for title, found, n in (
            ("all answers", losses, total),
            ("errors only", errors, total - int(np.trace(counts))),
        ):
            ratio = [n * (each[printed] - each[name]) / np.log(10) for each in found]
            value, low, high = pu.mean_ci(ratio, -np.inf, np.inf, overlap)
            row[f"log10 likelihood ratio, {title}"] = (
                "0" if name == printed else f"{value:.0f} ({low:.0f} to {high:.0f})"
            )
        table.append(row | {key: entry[key] for key in ("false positives", "false negatives")})
    return table


def likelier_names(losses: list[dict], overlap: float) -> dict[str, Comparison]:
    """Compare each other naming with the printed one: by naming, the paired difference of losses, above 0 if likelier.

    losses: for each split, the loss of each naming.
    """
    printed = ", ".join(CLASSES)
    return {
        name: pu.paired_difference([each[printed] for each in losses], [each[name] for each in losses], overlap=overlap)
        for name in losses[0]
        if name != printed
    }


def tell_names(likelier: dict) -> str:
    """Say how many of the other namings make the paper's matrix clearly likelier, and which is the likeliest of them.

    likelier: what `likelier_names` returned, by errors only.
    """
    clear = [name for name, difference in likelier.items() if difference.better]
    if not clear:
        return "By the errors of this run, no other order of names is clearly likelier than the printed one."
    best = max(clear, key=lambda name: likelier[name].value)
    return (
        f"By the errors of this run, {len(clear)} of the {len(likelier)} other orders of names are clearly likelier "
        f"than the printed one; the likeliest is *{best}*."
    )


def random_chi_squared(pool: Cohort, test: float, valid: float, draws: int, seed: int) -> np.ndarray:
    """Return chi-squared of the classes of random test parts against the pool's mix, under the right names."""
    mix = pool.counts().to_numpy() / len(pool)
    values = []
    for number in range(draws):
        rows = random_split(pool, test, valid, seed + number).part("test").counts().to_numpy()
        values.append(float(((rows - rows.sum() * mix) ** 2 / (rows.sum() * mix)).sum()))
    return np.array(values)


ADVICE_ON_NETWORK = {
    SUPPORTED: "",
    CONTRADICTED: " Do not use this network: a linear model on small images is better.",
    EQUIVALENT: " A linear model on small images is as good as this network.",
}


LOSS_OF_NAMES = "loss of the printed names minus: "  # begins the names of results, and other names of the rows follow


def give_answer(run, beats: tuple, explains: list[str], slope: str, curves: dict, names: str, results: dict, claims):
    """Fill in the box below the title: the answer of this run in sentences, numbers, verdicts, and advice.

    beats: the question whether the network is better than a linear model on pixels, as `run.ask` takes it.
    explains: sentences on training and validation accuracy, and on copies.
    slope: the name of the result that has the slope of accuracy over the share of copies.
    curves: the curves of `without_copies_plot`.
    names: a sentence on the names of the rows.
    """
    copied = 40  # percent, one of the shares that were tried
    measured, *_, as_training, worst = (
        f"{np.interp(copied, 100 * shares, values):.1f} %" for shares, values, _, _ in curves.values()
    )
    printed = next(iter(curves.values()))[1][0]
    if run.evidence.record:
        likelier = [
            f"*{name.removeprefix(LOSS_OF_NAMES)}*"
            for name, found in run.evidence_results.items()
            if name.startswith(LOSS_OF_NAMES) and found["low"] > 0
        ]
        names += f" By the errors on real radiographs, these are clearly likelier: {' and '.join(likelier) or 'none'}."
    sentences = [
        f"Is the network, once its top layers are trained too, more accurate than a linear model on 32 x 32 pixels? "
        f"{run.tell(*beats)}",
        *explains,
        f"If {copied} % of the paper's test images had a copy in training, what would its accuracy of {printed:.1f} % "
        f"be without them? {measured} if copies help it as they help our network in this run; {as_training} if it "
        f"answers copies as it answers its training images; {worst} if it answers every copy rightly.",
        names,
    ]
    found = run.evidence_results[slope]
    value, low, high = found["value"], found["low"], found["high"]
    if low > 0:
        advice = (
            "Look for copies before you split: with each tenth of the test images that has a copy in training, "
            f"accuracy rises by {value / 10:.3f} ({low / 10:.3f} to {high / 10:.3f})."
        )
    else:
        advice = (
            "Look for copies before you split. How much they raise accuracy is open: "
            f"{format_ci(value / 10, low / 10, high / 10)} for each tenth of the test images that has one."
        )
    advice += ADVICE_ON_NETWORK.get(
        run.ask(*beats, of=run.evidence).verdict, " Whether the network beats a linear model on small images is open."
    )
    run.answer(
        sentences, results, claims, advice + " Store class names with the numbers that a matrix is printed from."
    )
