"""Tables, figures and the short answer of the page across the papers; the page and its module do the experiment."""

import numpy as np
import pandas as pd

import pneumo_utils as pu
from notebooks.synthesis_design import BASELINES, IMAGENET, MAIN, PIXELS, Protocol, Trainings
from notebooks.synthesis_effects import Agreement
from pneumo_utils.claims.decision import CONTRADICTED, EQUIVALENT, INCONCLUSIVE, NOT_TESTED, SUPPORTED
from pneumo_utils.claims.judging import Verdict
from pneumo_utils.claims.ledger import Ledger
from pneumo_utils.claims.rules import read_margins
from pneumo_utils.claims.verdicts import short_verdict
from pneumo_utils.evaluation.comparison import prediction_interval
from pneumo_utils.evaluation.metrics import metric_label
from pneumo_utils.evaluation.scores import format_ci
from pneumo_utils.evaluation.variance_components import COLUMNS, DRAWS, INTERACTION, RESIDUAL, ROWS

METRICS = [("auroc", "children"), ("balanced_accuracy", "children"), ("auroc", "adults")]
SAID = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}
CHANGES = {  # what a change of the reference protocol is, by its effect
    "last block over the head alone": "train the last block too, not the head alone",
    "everything over the last block": "train everything, not the last block",
    "pre-trained over random weights": "begin with pre-trained weights, not with random ones",
    "augmented over as they are": "augment the images",
    "weighed over not weighed": "weight the classes",
}


SOURCES = {  # of the variance
    ROWS: "trunk",
    COLUMNS: "protocol",
    INTERACTION: "trunk and protocol together",
    DRAWS: "draw of the images",
    RESIDUAL: "rest",
}


def change(effect: str) -> str:
    """Return what a change does, in words; more images have no other words."""
    return CHANGES.get(effect, f"train on {effect.replace(' over ', ', not ')}")


def signed(verdict: Verdict) -> str:
    """Format a difference with its interval."""
    value, low, high = (round(each, 3) + 0.0 for each in (verdict.value, verdict.low, verdict.high))  # no -0
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def reference_rows(run, trainings: Trainings, networks: list[str]) -> list[dict]:
    """Return the rows of the reference protocol: every network and baseline, with the scores of one more draw."""
    rows = []
    for model in [*networks, *BASELINES]:
        row = {"": f"{model}, ImageNet weights" if model == IMAGENET else model}
        for metric, who in METRICS:
            interval = prediction_interval(trainings.scores(MAIN, model, metric, who))
            run.result(
                f"in the centre, {SAID[metric]} of {who}: {model}",
                *interval,
                note=f"mean of {trainings.n_draws} draws, and where another would fall",
            )
            row[f"{metric_label(metric)}, {who}"] = format_ci(*interval)
        rows.append(row | {"seconds": f"{trainings.seconds(MAIN, model):.1f}" if model in networks else ""})
    return rows


def effect_rows(run, gains: dict[str, dict], verdicts: dict[str, Verdict], n_networks: int) -> list[dict]:
    """Return the rows of the changes: what each adds to each score, and the verdict by AUROC on children.

    gains: by effect and then by metric and who is tested, the paired comparison.
    """
    rows = []
    for effect, by_metric in gains.items():
        row = {"change": change(effect)}
        for (metric, who), gain in by_metric.items():
            note = f"mean of {n_networks} trunks, paired over {gain.interval_basis}"
            run.result(f"gain, {SAID[metric]} of {who}: {effect}", *gain.claim, note=note)
            row[f"{metric_label(metric)}, {who}"] = format_ci(*gain.claim)
        rows.append(row | {"better, by AUROC of children?": verdicts[effect].verdict})
    return rows


def amount_row(run, number: int, compared: dict[str, np.ndarray], names: list[str], verdict: Verdict) -> dict:
    """Return the row of one number of training images, and store its results.

    compared: AUROC by draw, of the mean of the trunks, the linear model, the chosen network and EfficientNet-Lite0.
    names: the network that is chosen for each draw.
    verdict: on whether the chosen network is better than the linear model.
    """
    means = {name: pu.mean_ci(values) for name, values in compared.items() if name != "chosen network"}
    note = f"{len(names)} draws"
    for name, mean in means.items():
        run.result(f"images, AUROC, {name}: {number:,}", *mean, note=note)
    for name, first in (
        ("images, AUROC, networks over pixels", "mean of the trunks"),
        ("advice, AUROC, chosen network over pixels", "chosen network"),
    ):
        gain = pu.paired_difference(compared[first], compared[PIXELS])
        run.result(f"{name}: {number:,}", *gain.claim, note=f"paired over {note}")
    chosen = ", ".join(f"{name} ({names.count(name)})" for name in dict.fromkeys(names))
    return (
        {"images": f"{number:,}"}
        | {name: format_ci(*mean) for name, mean in means.items()}
        | {"chosen network (draws)": chosen, "is it better than the linear model?": short_verdict(verdict)}
    )


def curve_table(trainings: Trainings, amounts: dict[int, str], networks: list[str]) -> pd.DataFrame:
    """Arrange AUROC by model, number of images and draw, as `sample_size_curves` takes it."""
    return pd.DataFrame(
        [
            {"model": model, "baseline": model in BASELINES, "images": number, "draw": draw + 1, "value": value}
            for number, protocol in amounts.items()
            for model in [*networks, *BASELINES]
            for draw, value in enumerate(trainings.scores(protocol, model))
        ]
    )


def protocol_rows(protocols: dict[str, Protocol], ledger: Ledger) -> list[dict]:
    """Return the rows of the papers' protocols."""
    paper_rates = {
        "1 surgical": [ledger.value("p1-learning-rate")],
        "3 SGD": [ledger.value("p3-sgd-rate"), ledger.value("p3-sgd-finetune-rate")],
        "4 top layers": [ledger.value("p4-rate"), ledger.value("p4-tuning-rate")],
    }
    weights = {"": "no", "ratio": "the commoner class over the rarer", "balanced": "balanced"}
    return [
        {
            "protocol": name,
            "head": protocol.head,
            "what is trained, share of the steps, learning rate": "; ".join(
                f"{what}, {share:.2f}, {optimizer} {rate:g}" for what, share, optimizer, rate in protocol.plan
            ),
            "the paper's rates": ", ".join(f"{rate:g}" for rate in paper_rates.get(name, [])) or "not named",
            "augmentation": protocol.augmentation,
            "class weights": weights[protocol.class_weights],
        }
        for name, protocol in protocols.items()
    ]


def ranking_rows(scores: np.ndarray, names: list[str], pixels: np.ndarray, n_shown: int) -> list[dict]:
    """Return the rows of the best ways to train, by their mean over all draws, and of the linear model.

    scores: a row for each way, a column for each draw.
    """
    first = scores.argmax(axis=0)
    rows = [
        {
            "place": str(place + 1),
            "": names[index],
            "AUROC": format_ci(*prediction_interval(scores[index])),
            "draws in which it is first": str(int((first == index).sum())),
        }
        for place, index in enumerate(scores.mean(axis=1).argsort()[::-1][:n_shown])
    ]
    empty = dict.fromkeys(rows[0], "")
    return [*rows, empty | {"": PIXELS, "AUROC": format_ci(*prediction_interval(pixels))}]


def agreement_rows(agreements: list[Agreement]) -> list[dict]:
    """Return the rows of the differences in the run and in the record, with their verdicts."""
    return [
        {
            "difference": each.label,
            "this run": short_verdict(each.run),
            "the record": short_verdict(each.record),
            "alike?": short_verdict(each.alike),
        }
        for each in agreements
    ]


def agreement_table(agreements: list[Agreement]) -> pd.DataFrame:
    """Arrange the differences of the run and of the record as `differences_plot` takes them."""
    return pd.DataFrame(
        [
            {
                "comparison": each.label,
                **{name: getattr(each.run, name) for name in ("value", "low", "high")},
                **{f"other_{name}": getattr(each.record, name) for name in ("value", "low", "high")},
            }
            for each in agreements
            if each.run.tested and each.record.tested
        ]
    )


def describe_agreement(agreements: list[Agreement], kind: str, listed: bool = True) -> str:
    """Say which differences are alike in the run and in the record, which are not, and which are open.

    kind: the data of the record.
    listed: whether to list the differences, and not only count them.
    """
    by_verdict: dict[str, list[str]] = {}
    for each in agreements:
        by_verdict.setdefault(each.alike.verdict, []).append(each.label)
    words = {
        SUPPORTED: "alike up to what matters",
        CONTRADICTED: "not alike",
        INCONCLUSIVE: "inconclusive",
        NOT_TESTED: "not tested",
    }
    return (
        f"Is a difference on {kind} the same as in this run? Of {len(agreements)} differences: "
        + "; ".join(
            f"{words[word]} {len(by_verdict[word])}" + (f" ({', '.join(by_verdict[word])})" if listed else "")
            for word in words
            if word in by_verdict
        )
        + "."
    )


def group_verdicts(verdicts: dict[str, Verdict]) -> str:
    """List questions by their verdicts, each with its difference.

    verdicts: by what is asked.
    """
    groups: dict[str, list[str]] = {}
    for label, verdict in verdicts.items():
        words = f"{label} {signed(verdict)}" if verdict.tested else f"{label} ({verdict.reason})"
        groups.setdefault(verdict.verdict, []).append(words)
    order = (SUPPORTED, CONTRADICTED, EQUIVALENT, INCONCLUSIVE, NOT_TESTED)
    return "; ".join(f"*{word}*: {', '.join(groups[word])}" for word in order if word in groups)


def advise_on_network(verdict: Verdict, way: str, images: int) -> str:
    """Say what follows from the verdict on whether a network is better than the linear model.

    verdict: on whether the chosen way to train is better.
    way: the way that the mean of all draws puts first.
    """
    number = f"From {images:,} images"
    if verdict.verdict == SUPPORTED:
        return f"{number}, train a network ({way} leads); a linear model on {PIXELS} is worse."
    if verdict.verdict == CONTRADICTED:
        return f"{number}, fit a linear model on {PIXELS}; the networks are worse."
    if verdict.verdict == EQUIVALENT:
        return (
            f"{number}, a network and a linear model on {PIXELS} differ by less than what matters, so the choice may "
            "rest on cost: the linear model is fitted in a second."
        )
    if verdict.verdict == INCONCLUSIVE:
        return (
            f"{number}, this run does not decide between the best network and a linear model on {PIXELS}: it could "
            f"see a difference of {verdict.detectable:.2g}. Fit both ({way} leads the networks), and test them on more "
            "images of your own."
        )
    return f"{number}, nothing is decided: {verdict.reason}."


def advise_on_changes(verdicts: dict[str, Verdict]) -> str:
    """Say what follows from the verdicts on the changes of the protocol."""
    words = {
        SUPPORTED: "If you train a network, these changes help",
        CONTRADICTED: "These harm",
        EQUIVALENT: "These make no difference that matters",
        INCONCLUSIVE: "These are open",
    }
    parts = []
    for word, start in words.items():
        labels = [label for label, verdict in verdicts.items() if verdict.verdict == word]
        if labels:
            parts.append(f"{start}: {'; '.join(labels)}.")
    return " ".join(parts)


def give_answer(
    run,
    images: int,
    scores: dict[str, np.ndarray],
    n_ways: int,
    way: str,
    chosen: Verdict,
    imagenet: dict[str, Verdict],
    effects: dict[str, Verdict],
    source: Verdict,
    amounts: dict[int, Verdict],
    adults: Verdict,
    real: list[str],
) -> None:
    """Fill in the box below the title: the answer of this run in sentences, numbers, and advice.

    scores: AUROC by draw: of the way chosen on the other draws, of the linear model, and of EfficientNet-Lite0.
    n_ways: the number of ways to train that were compared.
    way: the way that leads by the mean of all draws.
    chosen: whether the chosen way is better than the linear model.
    imagenet: the verdicts on EfficientNet-Lite0, by question; empty if its weights are missing.
    effects: the verdicts on the changes.
    source: whether the protocol's share of the variance is above the network's.
    amounts: by number of images, whether the network chosen on the other draws is better than the linear model.
    adults: whether AUROC is lower on adults than on children.
    real: sentences on what the record of the other kind of data says.
    """
    auroc = {name: format_ci(*prediction_interval(values)) for name, values in scores.items()}
    sentences = [
        f"From {images:,} images, {n_ways} ways to train a network were compared. The best one, chosen on the other "
        f"draws, has an AUROC of {auroc['chosen']}; a linear model on {PIXELS} has {auroc[PIXELS]}. Is the network "
        f"better? {short_verdict(chosen).capitalize()}.",
    ]
    if imagenet:
        sentences.append(
            f"{IMAGENET} with ImageNet weights, its last block trained, has {auroc[IMAGENET]}. Is it better? "
            + " ".join(f"Than {other}: {short_verdict(verdict)}." for other, verdict in imagenet.items())
        )
    else:
        sentences.append(f"{IMAGENET} is left out, since its ImageNet weights are not installed.")
    sentences += [
        f"Does one change to the training help, by AUROC? {group_verdicts(effects)}.",
        f"Does the protocol explain more of the variance than the trunk? {short_verdict(source).capitalize()}.",
        "Is the best network, chosen on the other draws, better than the linear model, by number of training images? "
        f"{group_verdicts({f'{number:,}': verdict for number, verdict in amounts.items()})}.",
        f"Is the AUROC of networks trained on children lower on adults? {short_verdict(adults).capitalize()}.",
        *real,
    ]
    advice = f"{advise_on_network(chosen, way, images)} {advise_on_changes(effects)}"
    if adults.verdict == SUPPORTED:
        advice += " Test on the patients whom the network will meet: on adults it is worse."
    results = {
        "AUROC of the best way, chosen on the other draws": "best, AUROC: the best of all, chosen on the other draws",
        "AUROC of the linear model": "best, AUROC: 32 x 32 pixels",
        "the best way over the linear model": "best, AUROC: chosen on the other draws, over pixels",
        f"AUROC of {IMAGENET}": f"in the centre, AUROC of children: {IMAGENET}",
        "protocol's share of the variance": "share of the variance: protocol",
        "trunk's share of the variance": "share of the variance: trunk",
        "networks on adults, over children": "shift, AUROC: adults over children, mean of the trunks",
    }
    run.answer(sentences, results, [], advice.strip())


def margin_sentence() -> str:
    """Say which difference in AUROC matters."""
    return f"A difference in AUROC matters from {read_margins()['auroc'].value:g}."
