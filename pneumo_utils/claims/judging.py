"""Judge what a run has measured by the rules of the claims."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from pneumo_utils.claims import special_rules
from pneumo_utils.claims.decision import (
    CONTRADICTED,
    EQUIVALENCE_LEVEL,
    EQUIVALENT,
    LEVEL,
    NOT_TESTED,
    POWER,
    SUPPORTED,
    Difference,
    combine,
    decide,
    decide_printed,
    evidence_p,
)
from pneumo_utils.claims.ledger import Claim
from pneumo_utils.claims.measured import Measured
from pneumo_utils.claims.rules import Part, Rule, read_margins, require_rule
from pneumo_utils.evaluation.comparison import prediction_interval

NOT_MEASURED = "no run has measured it"
MIN_RUNS = 3  # fewer repetitions decide nothing


@dataclass(frozen=True)
class Verdict:
    """The verdict of a rerun on one claim, with everything that it rests on."""

    verdict: str
    reason: str = ""  # why it was not tested, or which comparison decided
    value: float = math.nan  # the deciding difference, or our score beside a printed one
    low: float = math.nan  # its 95 % confidence interval; of a printed score: where one more training would fall
    high: float = math.nan
    margin: float = math.nan  # the smallest difference that matters
    detectable: float = math.nan  # the smallest difference that this run could have seen, with 80 % power
    runs: int = 0
    unit: str = ""
    images: float = math.nan
    p: float = math.nan
    small_but_real: bool = False  # 0 is excluded, and the difference lies within the margin
    survives: bool | None = None  # Holm's correction over the paper's tested claims
    exploratory: str = ""  # empty, or why the rule was not fixed before the run
    data: str = ""
    weights: str = ""
    tier: str = ""
    chapter: str = ""
    section: str = ""
    record: str = ""
    kind: str = ""  # of data: phantom or real

    @property
    def tested(self) -> bool:
        """Return whether the claim was tested."""
        return self.verdict != NOT_TESTED

    @property
    def because(self) -> str:
        """Explain the verdict in one or two sentences with the numbers that decide."""
        if not self.tested:
            return f"{self.reason[:1].upper()}{self.reason[1:]}."
        origin = f"data: {self.data}; weights: {self.weights}; {describe_settings(self.tier)}."
        if math.isnan(self.margin):  # a printed score
            return f"{self.reason} D{origin[1:]}"
        deciding = f"{self.reason}: difference" if self.reason else "Difference"
        holm = {None: "", True: " It survives Holm's correction.", False: " It does not survive Holm's correction."}
        images = "" if math.isnan(self.images) else f", {self.images:.0f} test images each"
        return (
            f"{deciding} {self.value:+.3g} ({self.low:+.3g} to {self.high:+.3g}); at least {self.margin:g} matters, "
            f"and this run could see {self.detectable:.2g}."
            + (" Real, but smaller than what matters." if self.small_but_real else "")
            + (holm[self.survives] if self.verdict in (SUPPORTED, CONTRADICTED) else "")
            + f" {self.runs} {self.unit}{images}; {origin}"
            + (f" Exploratory: {self.exploratory}." if self.exploratory else "")
        )


def describe_settings(tier: str) -> str:
    """Describe a run's settings in a few words; the list of all changes would hide the numbers of a verdict.

    tier: the settings, as a run stores them.
    """
    name, _, changes = tier.partition(", with ")
    return f"{name} settings" + ", some changed" * bool(changes)


def judge(claim: Claim, measured: Measured | None) -> Verdict:
    """Judge a claim by its rule from the measurements of one run or record.

    claim: an entry of the ledger.
    measured: what the run has measured; None if nothing was run.
    """
    if claim.untested:
        return Verdict(NOT_TESTED, claim.untested)
    if not claim.rule:
        return Verdict(
            NOT_TESTED,
            "this book measures nothing that could decide"
            if claim.kind in ("ordering", "metric")
            else "a count, a setting or a piece of arithmetic: there is nothing to rerun",
        )
    if measured is None:
        return Verdict(NOT_TESTED, NOT_MEASURED)
    origin = {name: getattr(measured, name) for name in ("data", "weights", "tier", "chapter", "record", "kind")}
    if "variant" in claim.rule:
        verdict = _judge_printed(claim, measured)
    else:
        rule = require_rule(claim)
        verdict = apply_rule(rule, measured)
        stored = measured.rules.get(claim.id)
        if verdict.tested and stored != rule.digest:
            written = "changed after the run" if stored else "written after the run"
            verdict = replace(verdict, exploratory=f"its rule was {written}")
    return verdict if verdict.reason == NOT_MEASURED else replace(verdict, **origin)


def apply_rule(rule: Rule, measured: Measured) -> Verdict:
    """Apply a rule to the measurements of one run or record.

    rule: the rule of a claim.
    measured: what the run has measured.
    """
    try:
        labelled = differences(rule, measured)
    except KeyError:
        return Verdict(NOT_TESTED, NOT_MEASURED)
    section = _section(rule, measured)
    if missing := unmet_need(rule, measured, [found for _, _, found in labelled]):
        return Verdict(NOT_TESTED, missing, section=section)
    if undefined := [label for label, _, found in labelled if not found.defined]:
        return Verdict(NOT_TESTED, f"undefined: {undefined[0]}", section=section)
    parts = len(labelled)
    margins = [part.margin for part in rule.parts] or [rule.margin.value] * parts
    words = [decide(relation, found, margin, parts) for (_, relation, found), margin in zip(labelled, margins)]
    word = combine(words)
    p_values = [
        evidence_p(relation, found, margin, word == CONTRADICTED)
        for (_, relation, found), margin in zip(labelled, margins)
    ]
    deciding = _deciding_part(word, words, p_values)
    (label, _, found), margin = labelled[deciding], margins[deciding]
    low, high = found.interval(LEVEL)
    inner = found.interval(EQUIVALENCE_LEVEL)
    images = [size for size in (_images(part, measured) for part in rule.parts) if not math.isnan(size)]
    return Verdict(
        word,
        reason=label if parts > 1 else "",
        value=found.value,
        low=low,
        high=high,
        margin=margin,
        detectable=found.detectable(1 - (1 - POWER) / parts),
        runs=found.runs,
        unit="resamples of patients" if rule.paired_by == "resamples" else f"{rule.paired_by}s",
        images=min(images, default=math.nan),
        p=min(1.0, parts * p_values[deciding]) if word == CONTRADICTED else p_values[deciding],
        small_but_real=bool(word == EQUIVALENT and (low > 0 or high < 0) and -margin < inner[0] and inner[1] < margin),
        section=section,
    )


def _section(rule: Rule, measured: Measured) -> str:
    """Return the label of the section of the chapter that measured what a rule compares."""
    operands = [operand for part in rule.parts for operand in (part.first, part.second) if isinstance(operand, str)]
    facts = [measured.experiments[name] for name in sorted(rule.experiments) if name in measured.experiments]
    facts += [measured.quantities[name] for name in operands if name in measured.quantities]
    return next((each["section"] for each in facts if each.get("section")), "")


def _deciding_part(word: str, words: list[str], p_values: list[float]) -> int:
    """Return the index of the comparison that decides: against the claim the clearest one, otherwise the weakest."""
    candidates = [index for index, each in enumerate(words) if each == word] or list(range(len(words)))
    strongest = word in (CONTRADICTED, EQUIVALENT)
    return (min if strongest else max)(candidates, key=p_values.__getitem__)


def differences(rule: Rule, measured: Measured) -> list[tuple[str, str, Difference]]:
    """Compute the difference of each comparison of a rule, as label, relation and difference.

    rule: the rule.
    measured: the measurements; raises `KeyError` if they lack a score or quantity.
    """
    if rule.function:
        return special_rules.FUNCTIONS[rule.function](measured, **rule.args)
    return [(part.says, part.relation, _difference(part, measured)) for part in rule.parts]


def _difference(part: Part, measured: Measured) -> Difference:
    if part.experiment:
        paired = measured.paired(part.experiment, part.first, part.second, part.metric)
        return Difference.from_runs(paired, measured.overlap(part.experiment))
    value, resamples = 0.0, np.zeros(1)
    for operand, sign in ((part.first, 1), (part.second, -1)):
        if isinstance(operand, float):
            value, resamples = value + sign * operand, resamples + sign * operand
        else:
            quantity = measured.quantities[operand]
            value = value + sign * float(quantity["value"])
            resamples = resamples + sign * special_rules.as_array(quantity["resamples"])
    return Difference.from_resamples(value, resamples)


def _images(part: Part, measured: Measured) -> float:
    if not part.experiment:
        named = next(operand for operand in (part.first, part.second) if isinstance(operand, str))
        return float(measured.quantities[named].get("n", math.nan))
    operand = part.first if isinstance(part.first, str) else part.second
    return measured.sizes.get((part.experiment, str(operand), part.metric), math.nan)


def unmet_need(rule: Rule, measured: Measured, found: list[Difference]) -> str:
    """Return what a run lacks to decide a claim, or an empty text.

    rule: the rule of the claim.
    measured: the measurements of the run.
    found: the differences of the rule's comparisons.
    """
    needs = rule.needs
    if "data" in needs and measured.kind != needs["data"]:
        return f"needs {needs['data']} data; this is {measured.kind} data"
    if "weights" in needs and measured.weights != needs["weights"]:
        return f"needs {needs['weights']} weights; this run has {measured.weights} weights"
    if "tier" in needs and measured.tier != needs["tier"]:
        return f"needs the {needs['tier']}'s settings"
    runs = needs.get("runs", MIN_RUNS)
    few = min(each.runs for each in found)
    if rule.paired_by != "resamples" and few < runs:
        return f"needs {runs} {rule.paired_by}s; this run has {few}"
    facts = [measured.experiments[name] for name in sorted(rule.experiments) if name in measured.experiments]
    if other := [each["unit"] for each in facts if each["unit"] != rule.paired_by]:
        return f"this run repeats by {other[0]}, and the rule pairs by {rule.paired_by}"
    for need, words in (
        ("passes", "passes over the training images"),
        ("steps", "training steps"),
        ("training_images", "training images"),
    ):
        if need in needs and facts:
            there = min(each.get(need, 0) for each in facts)
            if there < needs[need]:
                return f"needs {needs[need]:,} {words}; this run has {there:,.5g}"
    if "images" in needs:
        there = min((size for part in rule.parts if not math.isnan(size := _images(part, measured))), default=0)
        if there < needs["images"]:
            return f"needs {needs['images']} test images; this run has {there:.0f}"
    return learned(needs["learned"], rule, measured) if "learned" in needs else ""


def learned(experiment: str, rule: Rule, measured: Measured) -> str:
    """Check whether a compared network beats the best baseline; return an empty text, or why not.

    It does if the one-sided 95 % confidence limit of the paired difference lies above 0.

    experiment: the experiment that has the scores of the networks and of the baselines.
    rule: the rule; if it compares no network of the experiment, the best of all its networks is taken.
    measured: the measurements of the run.
    """
    if experiment not in measured.experiments:
        return f"no run has measured {experiment}"
    facts = measured.experiments[experiment]
    baselines, metric = facts.get("baselines", []), facts.get("learned_by", "auroc")
    variants = [name for name in measured.variants(experiment) if measured.has(experiment, name, metric)]
    compared = {operand for part in rule.parts for operand in (part.first, part.second)}
    networks = [name for name in variants if name not in baselines]
    networks = [name for name in networks if name in compared] or networks
    baselines = [name for name in variants if name in baselines]
    if not networks or not baselines:
        return f"{experiment} has no network or no baseline with {metric}"

    def mean(name: str) -> float:
        scores = measured.values[experiment, name, metric].values()
        return sum(scores) / len(scores)

    network, baseline = max(networks, key=mean), max(baselines, key=mean)
    gain = Difference.from_runs(measured.paired(experiment, network, baseline, metric), measured.overlap(experiment))
    if not gain.defined:
        return f"too few repetitions of {network} and {baseline} to compare the network with its baseline"
    if gain.interval(EQUIVALENCE_LEVEL)[0] > 0:
        return ""
    low, high = gain.interval(LEVEL)
    return (
        f"the network did not beat its baseline: {metric} {mean(network):.3f} ({network}) against "
        f"{mean(baseline):.3f} ({baseline}), difference {gain.value:+.3f} ({low:+.3f} to {high:+.3f})"
    )


DIFFERENCES = ("gap", "gain_over_majority")  # printed scores that may lie below 0


def _judge_printed(claim: Claim, measured: Measured) -> Verdict:
    """Judge a printed score; only a run on real radiographs at the paper's settings can."""
    where = claim.rule["experiment"], claim.rule["variant"], claim.rule["metric"]
    if not measured.has(*where):
        return Verdict(NOT_TESTED, NOT_MEASURED)
    times = claim.rule.get("times", 1)
    scores = [times * score for score in measured.values[where].values()]
    section = measured.experiments[where[0]].get("section", "")
    if len(scores) < MIN_RUNS:
        value, low, high = sum(scores) / len(scores), math.nan, math.nan
    else:
        most = math.inf if where[2] == "loss" else times  # all other printed scores are shares, or differences of two
        value, low, high = prediction_interval(scores, -times if where[2] in DIFFERENCES else 0.0, most)
    ours = f"ours {value:.4g}" + ("" if math.isnan(low) else f" ({low:.4g} to {high:.4g})")
    if not measured.real or measured.tier != "paper":
        return Verdict(
            NOT_TESTED,
            f"a printed score needs real radiographs and the paper's settings; {ours} on "
            f"{measured.kind} data at {describe_settings(measured.tier)}",
            value,
            low,
            high,
            section=section,
        )
    widest = times * read_margins()[where[2]].widest
    word = decide_printed(claim.value, 0.5 * 10.0**-claim.decimals, low, high, widest)
    return Verdict(
        word,
        f"Printed {claim.printed or claim.value}, {ours}; an interval of up to {widest:g} may decide.",
        value,
        low,
        high,
        runs=len(scores),
        section=section,
    )
