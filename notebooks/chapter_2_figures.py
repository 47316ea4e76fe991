"""The figures of chapter 2, and the tables that several of its results make up."""

import numpy as np
import pandas as pd

import pneumo_utils as pu
from notebooks.chapter_2 import PNEUMONIA, Settings, last
from pneumo_utils import explain
from pneumo_utils.claims.decision import CONTRADICTED, EQUIVALENT, SUPPORTED
from pneumo_utils.data.cohort import Cohort
from pneumo_utils.evaluation.scores import clustered_mean_ci, exact_ci, format_ci, metric_values
from pneumo_utils.explain.randomisation import scale_to_max
from pneumo_utils.phantom import writers
from pneumo_utils.plots.viewer import map_viewer

YES, NO, OPEN = "yes", "no", "open"
FORGOTTEN = 0.3  # a rank correlation below this is taken as no likeness


def store_crossed(run, experiment: str, four: dict[str, list[dict]], baselines: dict, passes: float) -> None:
    """Store the scores of trainings with and without copies and dropout, for the rules of claims.

    four: by variant, such as "VGG16, copies", what `train_and_test` returned for each seed.
    """
    if not four:
        return
    predicted = {name: [pu.Predictions(**each["test"]) for each in runs] for name, runs in four.items()}
    facts = {"unit": "seed", "passes": passes}
    run.scores(experiment, predicted | baselines, ["accuracy", "f1_macro", "auroc"], baselines=list(baselines), **facts)
    gains = {
        name: metric_values(each, "accuracy") - metric_values(predicted[name.replace("copies", "neither")], "accuracy")
        for name, each in predicted.items()
        if name.endswith(", copies")
    }
    run.scores(experiment, gains, "gain_in_accuracy", n=len(next(iter(predicted.values()))[0]), **facts)
    for name, runs in four.items():
        histories, training = ([each[key] for each in runs] for key in ("history", "in evaluation mode"))
        scores = {
            "validation_loss": last(histories, "valid_loss"),
            "training_loss": last(training, "loss"),
            "gap": last(training, "accuracy") - last(histories, "valid_accuracy"),
        }
        for metric, values in scores.items():
            run.scores(experiment, {name: values}, metric, **facts)


def first_of_each_cause(test: Cohort) -> Cohort:
    """Return the first normal image, and the first of either cause of pneumonia."""
    kind = test.table["cause"].fillna("").where(test.table["labels"] != test.classes[0], "normal")
    return test.where(~kind.duplicated().to_numpy())


def viewer(settings: Settings, nets: dict, test: Cohort, folder, seed: int) -> str:
    """Return a viewer of a normal image and two with pneumonia under maps of several layers and methods, as HTML."""
    order = np.random.default_rng(seed).permutation(len(test))
    ill = (test.table["labels"] == test.classes[PNEUMONIA]).to_numpy()[order]
    shown = test.where(np.isin(np.arange(len(test)), [*order[~ill][:1], *order[ill][:2]]))
    words = dict(zip(test.classes, ("normal", "pneumonia")))
    choices, answers = {}, {}
    for name, net in nets.items():
        images = shown.loader(settings.image_size, 64, stats=net.about.stats)
        early = [block for block, _ in net.named_children()][-3]
        for layer, method, how in (
            ("last", "gradcam", {}),
            ("earlier", "gradcam", {"layer": early}),
            ("last", "gradcam++", {}),
            ("pixels", "saliency", {}),
            ("pixels", "occlusion", {"window": max(2, settings.image_size // 4)}),
        ):
            maps = pu.saliency_maps(net, images, method, **how)
            key = (*name.split(", scenario "), layer, explain.METHODS[method].name)
            choices[key] = np.asarray(maps).clip(0)
            answers[key] = [list(words.values())[answer] for answer in maps.classes]
    cases = [f"{words[name]} {number + 1}" for number, name in enumerate(shown.table["labels"])]
    lesions = writers.lesion_masks(folder, list(shown.table["image"]), settings.image_size)
    return map_viewer(dict(zip(cases, np.asarray(shown.pixels(settings.image_size)))), choices, lesions, answers)


def measure_map(maps: np.ndarray, lesions: np.ndarray, regions: dict[str, np.ndarray]) -> dict[str, float]:
    """Measure one network's maps against the truth: means over the images for which a measure is defined."""
    maps, ill = np.asarray(maps, dtype=float), lesions.any((1, 2))
    lungs, middle, diaphragm = (
        np.nanmean(explain.relative_heat_share(maps, regions[name]))
        for name in ("the lungs", "the middle", "the diaphragm")
    )
    return {
        "pointing game": np.nanmean(explain.pointing_game(maps[ill], lesions[ill])),
        "heat on the lesion": np.nanmean(explain.relative_heat_share(maps[ill], lesions[ill])),
        "heat_on_lungs": lungs,
        "heat_on_diaphragm": diaphragm,
        "heat_on_lungs_over_middle": lungs - middle,
    }


def truth_plot(run, measured: dict[str, pd.DataFrame], controls) -> tuple:
    """Store the measures of all maps with their intervals over seeds, and plot the heat on the lesion and the lungs."""
    rows = []
    for metric, name in {
        "pointing game": "pointing game",
        "heat on the lesion": "heat on the lesion",
        "heat_on_lungs": "heat on the lungs",
    }.items():
        for which, table in measured.items():
            value, low, high = pu.mean_ci(table[metric].dropna(), 0, 1 if metric == "pointing game" else np.inf)
            run.result(f"{which}: {name}", value, low, high, note="mean over seeds")
            if metric == "pointing game":
                continue  # stored, and not plotted
            rows.append(
                {
                    "model": which,
                    "baseline": which in controls,
                    "metric": name,
                    "value": value,
                    "low": low,
                    "high": high,
                }
            )
    return pu.forest_plot(pd.DataFrame(rows))


def pointing_rows(run, trained: dict, models: list[str], n_seeds: int, boxed: Cohort, boxes: np.ndarray, size: int):
    """Return the rows of the table of real boxes: networks by their scores and their mean maps, and control maps."""
    patients, rows = boxed.table["patient"], []
    maps = {
        model: np.mean([scale_to_max(trained[f"adults, {model}, {n + 1}"]["maps"]) for n in range(n_seeds)], axis=0)
        for model in models
    }
    controls = explain.control_maps(np.asarray(boxed.pixels(size)))
    best = max(controls, key=lambda name: explain.pointing_game(controls[name], boxes).mean())
    for name, each in (maps | controls).items():
        hits, heat = explain.pointing_game(each, boxes), explain.relative_heat_share(each, boxes)
        row = {"map": name, "AUROC, other adults": ""}
        if name in maps:
            tested = [pu.Predictions(**trained[f"adults, {name}, {n + 1}"]["test"]) for n in range(n_seeds)]
            auroc = pu.mean_ci(metric_values(tested, "auroc"))
            run.result(f"adults, AUROC: {name}", *auroc, baseline=0.5, note="adults held out, over seeds")
            row["AUROC, other adults"] = format_ci(*auroc)
        pointing, difference = (
            clustered_mean_ci(values, patients)
            for values in (hits, hits - explain.pointing_game(controls[best], boxes))
        )
        if hits.min() == hits.max() and hits.min() in (0, 1):  # no resample of the patients would differ
            pointing = (hits[0], *exact_ci(hits[0], patients.nunique(), 0.95))
        run.result(f"pointing game: {name}", *pointing, note=f"{len(boxed)} adults with boxes, over patients")
        row |= {
            "pointing game": format_ci(*pointing),
            "heat on the boxes": format_ci(*clustered_mean_ci(heat, patients)),
            "pointing game minus best control": format_ci(*difference) if name in maps else "",
            "difference": difference,
        }
        rows.append(row)
    return rows


def answer_of(low: float, high: float, limit: float = 0.0) -> str:
    """Say whether an interval lies above a limit, below it, or holds it."""
    return YES if low > limit else NO if high < limit else OPEN


def answer_for_all(differences: list[tuple]) -> tuple[str, str]:
    """Count networks above and below their control, and say yes or no where all agree."""
    above, below = sum(low > 0 for _, low, _ in differences), sum(high < 0 for _, _, high in differences)
    n = len(differences)
    return f"more in {above}, less in {below} of {n} networks", YES if above == n else NO if below == n else OPEN


def trust_rows(
    run, over_control, boxed, alike: tuple, slow: dict, letter: dict, patients: tuple, seed: int
) -> list[dict]:
    """Return the rows of the table of trust: the question, what was measured, and the answer.

    over_control: by network, its heat on the lesion minus that of the best control map, with its interval.
    boxed: the rows of `pointing_rows`.
    alike: the likeness of maps between seeds, and between children, for each image.
    slow: the results of randomising and deletion.
    letter: whether networks read the planted letter, and the heat on it.
    patients: the patients of the mapped images, and of those with pneumonia among them.
    """
    rows = []

    def add(question: str, measured: str, answer: str) -> None:
        rows.append({"question": question, "measured": measured, "answer": answer})

    if over_control:
        add("1. Is more heat on the lesion than on the best control map?", *answer_for_all(list(over_control.values())))
    if networks := [row["difference"] for row in boxed if row["AUROC, other adults"]]:
        add("1. Does it point at real boxes more often than the best control map?", *answer_for_all(networks))
    seeds, children = alike
    difference = clustered_mean_ci(seeds - children, patients[0], seed=seed)
    run.result("likeness of maps: seeds minus children", *difference, note="rank correlation, over patients")
    add(
        "2. Is it more alike between seeds than between children?",
        f"rank correlation {np.nanmean(seeds):.2f} between seeds, {np.nanmean(children):.2f} between children; "
        f"difference {format_ci(*difference)}",
        answer_of(*difference[1:]),
    )
    likeness = clustered_mean_ci(np.abs(slow["likeness"]), patients[1], seed=seed)
    run.result("likeness with random weights", *likeness, note="absolute rank correlation, over patients")
    add(
        f"3. Does it forget when the network does (rank correlation under {FORGOTTEN})?",
        f"absolute rank correlation {format_ci(*likeness)} once all weights are random",
        {YES: NO, NO: YES}.get(answer_of(*likeness[1:], FORGOTTEN), OPEN),
    )
    fall = clustered_mean_ci(slow["noise"] - slow["map"], patients[1], seed=seed)
    run.result("deletion: noise minus map", *fall, note="area under the probability of pneumonia, over patients")
    add(
        "4. Does the prediction fall faster than in the order of noise?",
        f"area smaller by {format_ci(*fall)}",
        answer_of(*fall[1:]),
    )
    if letter:
        heat = clustered_mean_ci(letter["heat"], patients[1], seed=seed)
        run.result("planted letter, heat on it", *heat, baseline=1.0, note="over an even map, over patients")
        run.result("planted letter, AUROC with it minus without", *letter["reads it"].claim, note="over seeds")
        add(
            "5. Does it show the planted letter?",
            f"{format_ci(*heat)} times the heat of an even map; with the letter AUROC changes by "
            f"{format_ci(*letter['reads it'].claim)}",
            answer_of(*heat[1:], 1.0) if letter["reads it"].better else OPEN,
        )
    return rows


ADVICE_ON_COPIES = {
    SUPPORTED: "Add copies: here they raise accuracy by what matters.",
    CONTRADICTED: "Leave the copies out: here they lower accuracy.",
    EQUIVALENT: "Copies are not worth their cost: they change accuracy by less than what matters.",
}


def give_answer(
    run, everyone: dict, beats: tuple, copies: dict[str, tuple], trusted: list[dict], results: dict, claims
):
    """Fill in the box below the title: the answer of this run in sentences, numbers, verdicts, and advice.

    everyone: the predictions by network and baseline.
    beats: the question whether the best network is better than a linear model on pixels, as `run.ask` takes it.
    copies: by network, the question whether copies alone raise accuracy.
    trusted: the rows of `trust_rows`.
    """
    mean = {name: metric_values(each, "auroc").mean() for name, each in everyone.items()}
    best = beats[0].split(" > ")[0]
    answers = [row["answer"] for row in trusted]
    sentences = [
        f"The best network here is {best}: AUROC {mean[best]:.3f}. A linear model on 32 x 32 pixels has "
        f"{mean['32 x 32 pixels']:.3f}. Is the network better? {run.tell(*beats)}",
        *(
            f"Do copies of the images, without dropout, raise the accuracy of {model}? {run.tell(*question)}"
            for model, question in copies.items()
        ),
        "What does a Grad-CAM map show? " + " ".join(f"{row['question'][3:]} **{row['answer']}**." for row in trusted),
    ]
    verdicts = {run.ask(*question, of=run.evidence).verdict for question in copies.values()}
    advice = ADVICE_ON_COPIES.get(verdicts.pop(), "") if len(verdicts) == 1 else ""
    advice = advice or "Whether copies help is open; try both on held-out patients."
    if run.ask(*beats, of=run.evidence).verdict != SUPPORTED:
        advice += " First fit a linear model on small images: no network was clearly better."
    if answers.count(YES) < len(answers):
        advice += " Do not take a heat map as a reason without a control map beside it."
    run.answer(sentences, results, claims, advice)
