"""Tables, figures and the short answer of the atlas of phantoms, and the plainest case of a finding."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from pneumo_utils.phantom.population import Population
from pneumo_utils.plots import phantom
from pneumo_utils.plots.tables import html_table

NO_RECORD = "*No measurement is kept yet.* `python benchmarks/{}.py --real DIR --out book/records/{}.json` makes one."
GUESSING = 0.5  # AUROC


def plainest_case(
    population: Population, finding: str, people: Sequence[int], size: int, severity: float, **force
) -> dict:
    """Draw the person whose picture a finding changes most, without it and with it.

    people: the numbers of the people to choose from.
    force: what else is fixed for all of them, such as the site.
    """
    without = population.render(people, size=size, force=force | {"findings": []})
    ill = population.render(people, size=size, force={"severity": severity} | force | {"findings": [finding]})
    masks = np.stack([phantom.mask_of(ill, finding, row) for row in range(len(people))])
    change = (ill.image.float() - without.image.float()).numpy() * masks
    best = int(np.abs(change).sum((1, 2)).argmax())
    return {
        "name": finding.replace("_", " "),
        "without": without.image[best].numpy(),
        "with": ill.image[best].numpy(),
        "mask": masks[best],
        "share": masks[best].mean(),
        "change": change[best].sum() / max(1, masks[best].sum()),
    }


def show_realism(run, record: dict | None) -> dict:
    """Show how phantoms and real radiographs differ, and return the numbers for the short answer.

    record: the record of the measurement; None if there is none.
    """
    if record is None:
        display(Markdown(NO_RECORD.format("phantom", "phantom_realism")))
        return {}
    scores = phantom.difficulty_table(record)
    both, found, sentences = scores.dropna(), {}, []
    if len(both):
        furthest = both.loc[both["gap"].abs().idxmax()]
        found["gap"] = run.result(
            "difficulty_gap", both["gap"].abs().mean(), note="mean distance in AUROC over tasks and features"
        )
        found["easier"], found["pairs"] = int((both["gap"] > 0).sum()), len(both)
        sentences.append(
            f"**The AUROC of simple models on phantoms and on real radiographs differs by {found['gap']:.3f} on "
            f"average over {len(both)} pairs of task and features; phantoms are easier in {found['easier']}.** It "
            f"differs most for *{furthest['task']}* from *{furthest['features']}*: {furthest['phantom']:.3f} on "
            f"phantoms and {furthest['real']:.3f} on real radiographs."
        )
    told_apart = record.get("phantom told from real, AUROC", {})
    told_apart = {name: value for name, value in told_apart.items() if isinstance(value, float)}
    if told_apart:
        easiest, hardest = max(told_apart, key=told_apart.__getitem__), min(told_apart, key=told_apart.__getitem__)
        note = f"AUROC, {easiest}; baseline: guessing"
        found["told apart"] = run.result("phantom_told_from_real", told_apart[easiest], baseline=GUESSING, note=note)
        sentences.append(
            f"Simple models tell phantoms from real radiographs with an AUROC from {told_apart[hardest]:.3f} "
            f"(*{hardest}*) to {told_apart[easiest]:.3f} (*{easiest}*)."
        )
    display(
        Markdown(" ".join(sentences) or "Only phantoms have been measured so far."),
        html_table(
            scores if len(both) else scores[["task", "features", "phantom"]],
            _="{:.3f}",
            gap="{:+.3f}",
            name="difficulty",
            caption="AUROC of simple models by task, number of labels and features. Gap: phantom less real; above 0, "
            "phantoms are easier.",
        ),
        html_table(
            phantom.grey_and_edge_statistics(record),
            _="{:.1f}",
            name="looks",
            caption="Greys, and pixels on edges, in phantoms and in real radiographs.",
        ),
    )
    alt = "AUROC of simple models: " + "; ".join(
        f"{row['features']}, {row['task']}: phantom {row['phantom']:.2f}"
        + (f", real {row['real']:.2f}" if row["real"] == row["real"] else "")
        for row in scores.to_dict("records")
    )
    run.figure(
        phantom.realism_plot(record),
        "realism",
        alt=alt,
        caption="Phantoms (orange dots) and real radiographs (blue squares): how well simple models tell the classes "
        "apart (dotted: guessing), which greys there are, and how much detail at each scale.",
    )
    return found


def show_pretraining(run, record: dict | None) -> dict:
    """Show what training on phantoms is worth on real radiographs, and return the numbers for the short answer.

    record: the record of the measurement; None if there is none.
    """
    if record is None:
        display(Markdown(NO_RECORD.format("phantom_pretraining", "phantom_pretraining")))
        return {}
    mean = {(row["task"], row["labels"], row["features"]): row["auroc mean"] for row in record["rows"]}
    gains = {
        (task, labels): mean[task, labels, "ResNet18 from phantoms"] - mean[task, labels, "random ResNet18"]
        for task, labels, _ in mean
    }
    first = run.result(
        "gain_of_phantom_training",
        gains["two classes", 100],
        note="AUROC on real children, 100 labels: features trained on phantoms over the same network at random",
    )
    higher = sum(gain > 0 for gain in gains.values())
    listed = ", ".join(f"{gain:+.3f} ({task}, {labels:,} labels)" for (task, labels), gain in gains.items())
    settings = record["settings"]
    display(
        Markdown(
            f"**Features trained on phantoms have a higher mean AUROC than those of random weights in {higher} of "
            f"{len(gains)} comparisons: {listed}.** They were trained on {settings['phantoms']:,} phantoms of "
            f"{settings['size']} px for {settings['epochs']} epochs. The table has the spread over draws and seeds."
        ),
        html_table(
            phantom.pretraining_table(record),
            name="pretraining",
            caption="AUROC on real children by task, number of real labels and features: mean and standard deviation "
            "over draws and seeds.",
        ),
    )
    return {"gain": first, "higher": higher, "of": len(gains)}


def give_answer(
    run,
    through: list[float],
    step: dict[str, float],
    spread: float,
    changes: dict[tuple[str, float], list[float]],
    gaps: pd.Series,
    share: float,
    realism: dict,
    pretrained: dict,
) -> None:
    """Fill in the box below the title: how a phantom is made, and how far it can stand for a radiograph.

    through: the share of the beam that comes straight through lungs and heart.
    step: the step of grey at the heart's border, without and with a consolidation.
    spread: the standard deviation of the mean grey of healthy lungs.
    changes: by cause and severity, how much brighter the place of the pneumonia becomes in each child.
    gaps: the range over sites of the mean grey of the same children, and of the share of the ill.
    share: the share of the children with pneumonia.
    realism, pretrained: what the records say, from `show_realism` and `show_pretraining`.
    """
    hidden = [f"{cause} at {each:g}" for (cause, each), change in changes.items() if abs(np.mean(change)) < spread]
    sentences = [
        f"A phantom is a map of thickness, through which X-rays are sent: {100 * through[0]:.1f} % of the beam comes "
        f"straight through a child's lungs and {100 * through[1]:.1f} % through the heart. A consolidation beside the "
        f"heart changes the step of grey at its border from {step['without']:.0f} to {step['with']:.0f} levels.",
        f"Healthy lungs differ by {spread:.1f} grey levels. Of {len(changes)} pneumonias from severe to faint, "
        f"{len(hidden)} change their place by less on average" + (f" ({', '.join(hidden)})." if hidden else "."),
        f"The same children differ by up to {gaps['mean grey']:.0f} grey levels between sites, and the share of "
        f"the ill by up to {gaps['ill']:.0f} points. The answer *pneumonia* for everyone is right for "
        f"{100 * share:.0f} % of the default children.",
    ]
    advice = (
        "Use phantoms to test code, and methods whose truth must be known at every pixel. Compare each score with that "
        "of the majority class, and each change of grey with the spread of healthy people."
    )
    if realism:
        apart = f" At best, simple models tell the two apart with an AUROC of {realism['told apart']:.3f}." * (
            "told apart" in realism
        )
        if "gap" in realism:
            sentences.append(
                f"The AUROC of simple models on phantoms and on real radiographs differs by {realism['gap']:.3f} on "
                f"average; phantoms are easier in {realism['easier']} of {realism['pairs']} pairs of task and "
                f"features.{apart}"
            )
        if realism.get("told apart", 0) > 0.75:
            advice += " A result on phantoms is a result on phantoms: the two kinds of image are easily told apart."
    if pretrained:
        sentences.append(
            "Features trained on phantoms have a higher mean AUROC on real children than those of random weights in "
            f"{pretrained['higher']} of {pretrained['of']} comparisons; with 100 labels and two classes the difference "
            f"is {pretrained['gain']:+.3f}."
        )
        if not pretrained["higher"]:
            advice += " Do not train on phantoms, at these settings, to be better on radiographs."
    results = {
        "share of the beam straight through the lungs": "straight_through_lungs",
        "spread of healthy lungs, grey levels": "healthy_lungs_differ_by",
        "range of mean grey over sites, children": "sites_differ_child",
        "share of children with pneumonia": "pneumonia_share",
        "mean gap of AUROC, phantom and real": "difficulty_gap",
        "AUROC, phantom told from real": "phantom_told_from_real",
    }
    run.answer(sentences, results, [], advice)
