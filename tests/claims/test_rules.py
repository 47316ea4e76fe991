"""Every rule of the ledger on made-up score tables: silent where nothing is to be found, and it sees what is there."""

import json
import zlib
from dataclasses import asdict

import numpy as np
import pytest
from example_rule import RULE as EXAMPLE
from scipy import stats

from pneumo_utils.claims.decision import (
    ALIKE,
    AT_LEAST,
    BETTER,
    CONTRADICTED,
    EQUIVALENT,
    INCONCLUSIVE,
    NOT_TESTED,
    SUPPORTED,
)
from pneumo_utils.claims.judging import apply_rule, judge
from pneumo_utils.claims.ledger import Claim, LedgerError, load_ledger
from pneumo_utils.claims.measured import Measured
from pneumo_utils.claims.rules import Part, Rule, rule_of

CLAIMS = [claim for claim in load_ledger().claims if claim.comparative]
RULES = {claim.id: rule for claim in CLAIMS if (rule := rule_of(claim))}
RUNS, TABLES, POWER_TABLES = 8, 1000, 200
OVERLAP = 0.25


# ---- tables of scores without any training


def means_of(rule: Rule, targets: dict[int, float]) -> dict[tuple, float]:
    """The true mean of each score that a rule compares, so that comparison number i is the target's value apart."""
    operands = [[(part.experiment, each, part.metric) for each in (part.first, part.second)] for part in rule.parts]
    names = list(dict.fromkeys(name for pair in operands for name in pair if isinstance(name[1], str)))
    rows, values = [], []
    for index, target in targets.items():
        row = np.zeros(len(names))
        for name, sign in zip(operands[index], (1, -1)):
            if isinstance(name[1], str):
                row[names.index(name)] += sign
            else:
                target -= sign * name[1]
        rows.append(row)
        values.append(target)
    means = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0] if rows else np.zeros(len(names))
    assert not rows or np.allclose(np.array(rows) @ means, values), "no scores can have these differences"
    return dict(zip(names, means))


def table(rule: Rule, means: dict[tuple, float], noise: dict[tuple, float], random, overlap: float = 0.0) -> Measured:
    """Scores of several repetitions: all share what is easy or hard in a repetition, and each has noise of its own.

    Splits that overlap share a part of the noise over all repetitions, as the correction assumes.
    """
    values, quantities = {}, {}
    # a comparison with a fixed number is not freed of it by pairing
    fixed = any(isinstance(each, float) for part in rule.parts for each in (part.first, part.second))
    shared = np.zeros(RUNS) if fixed else random.normal(0, 0.03, RUNS)
    for name, mean in means.items():
        experiment, variant, metric = name
        own = random.normal(0, noise[name], RUNS) + random.normal(0, noise[name] * np.sqrt(overlap))
        if experiment:
            values[name] = dict(enumerate(mean + shared + own))
        else:
            estimate = random.normal(mean, noise[name])
            quantities[variant] = {"value": estimate, "resamples": random.normal(estimate, noise[name], 400), "n": 1e6}
    return furnish(rule, values, quantities, overlap)


def furnish(rule: Rule, values: dict, quantities: dict, overlap: float = 0.0) -> Measured:
    """Give a run all that a rule needs before it may speak."""
    needs = rule.needs
    experiments = {
        name: {"unit": rule.paired_by, "overlap": overlap, "passes": 1e6, "steps": 1e9, "training_images": 1e9}
        for name in rule.experiments
    }
    if "learned" in needs:
        facts = experiments.setdefault(needs["learned"], {"unit": rule.paired_by})
        facts |= {"baselines": ["a baseline"], "learned_by": "whether it learned"}
        for variant, level in (("a baseline", 0.5), ("a network", 0.9)):
            values[needs["learned"], variant, "whether it learned"] = {index: level for index in range(RUNS)}
    return Measured(
        chapter=f"{0:02d}",
        real=needs.get("data") == "real",
        tier=needs.get("tier", "pocket"),
        data="made up",
        weights=needs.get("weights", "pocket"),
        values=values,
        sizes=dict.fromkeys(values, 1e6),
        experiments=experiments,
        quantities=quantities,
    )


def noise_for(rule: Rule, means: dict[tuple, float], se: float, overlap: float = 0.0) -> dict[tuple, float]:
    """The noise of a score with which a difference of two has about this standard error."""
    return {name: se / np.sqrt((1 / RUNS + overlap) * 2) if name[0] else se / np.sqrt(2) for name in means}


def df_of(rule: Rule) -> float:
    return np.inf if rule.paired_by == "resamples" else RUNS - 1


def words(rule: Rule, make, tables: int, seed: str) -> list[str]:
    random = np.random.default_rng(zlib.crc32(seed.encode()))
    return [apply_rule(rule, make(random)).verdict for _ in range(tables)]


def at_most(share: float, tables: int) -> int:
    """So many of the tables may have what each has with this probability; more would come up once in 10,000 times."""
    return int(stats.binom.ppf(0.9999, tables, share))


# ---- what functions of their own need in the place of means


def groups(experiment: str, rows: dict[str, np.ndarray], metric: str) -> dict:
    return {(experiment, name, metric): dict(enumerate(row)) for name, row in rows.items()}


def more_variable(rule: Rule, random, effect: bool) -> Measured:
    args = rule.args
    return furnish(
        rule,
        groups(
            args["experiment"],
            {
                args["first"]: random.normal(0.8, 0.1 if effect else 0.02, RUNS),
                args["second"]: random.normal(0.8, 0.005 if effect else 0.02, RUNS),
            },
            args["metric"],
        ),
        {},
    )


def spread_above(rule: Rule, random, effect: bool) -> Measured:
    args = rule.args
    spread = args["limit"] * 6 if effect else args["limit"]
    return furnish(
        rule, groups(args["experiment"], {args["variant"]: random.normal(0.8, spread, RUNS)}, args["metric"]), {}
    )


def largest_range(rule: Rule, random, effect: bool) -> Measured:
    """Without an effect the metric of the claim is the noisiest, as recall is beside accuracy."""
    args, values = rule.args, {}
    for metric in (args["metric"], *args["others"]):
        noise = 0.06 if metric == args["metric"] else 0.02
        for index, variant in enumerate(args["variants"]):
            shift = 0.2 * index if effect and metric == args["metric"] else 0.0
            values |= groups(args["experiment"], {variant: random.normal(0.7 + shift, noise, RUNS)}, metric)
    return furnish(rule, values, {})


def any_differs(rule: Rule, random, effect: bool) -> Measured:
    args = rule.args
    rows = {name: random.normal(0.8, 0.03, RUNS) for name in (args["reference"], *args["variants"])}
    if effect:
        rows[args["variants"][0]] = rows[args["variants"][0]] - 0.15
    return furnish(rule, groups(args["experiment"], rows, args["metric"]), {})


def best_model(rule: Rule, random, effect: bool) -> Measured:
    args, values = rule.args, {}
    for model, variants in args["models"].items():
        for variant in variants:
            shift = 0.3 if effect and model == args["best"] else 0.0
            values |= groups(args["experiment"], {variant: random.normal(0.6 + shift, 0.05, RUNS)}, args["metric"])
    return furnish(rule, values, {})


MAKERS = {each.__name__: each for each in (more_variable, spread_above, largest_range, any_differs, best_model)}


# ---- the rules


@pytest.mark.parametrize("name", RULES)
def test_rule_is_silent_where_there_is_nothing(name):
    """Neither supported nor contradicted in more than one table of twenty, up to chance.

    A claim that two things are alike is false where they differ by the margin: there it may not be supported.
    """
    rule = RULES[name]
    if rule.function:
        found = words(rule, lambda random: MAKERS[rule.function](rule, random, effect=False), TABLES, name)
        assert sum(word in (SUPPORTED, CONTRADICTED) for word in found) <= at_most(0.05, TABLES)
        return
    better = [index for index, part in enumerate(rule.parts) if part.relation == BETTER]
    other = [index for index, part in enumerate(rule.parts) if part.relation != BETTER]
    if better:
        means = means_of(rule, dict.fromkeys(better, 0.0))
    else:
        part = rule.parts[other[0]]
        means = means_of(rule, {other[0]: -part.margin})
    margin = min(part.margin for part in rule.parts)
    # half of the rules meet splits that overlap
    overlap = OVERLAP if zlib.crc32(name.encode()) % 2 and rule.paired_by != "resamples" else 0.0
    noise = noise_for(rule, means, margin * (1.5 if better else 0.2), overlap)
    found = words(rule, lambda random: table(rule, means, noise, random, overlap), TABLES, name)
    assert NOT_TESTED not in found
    if better:
        assert sum(word in (SUPPORTED, CONTRADICTED) for word in found) <= at_most(0.05, TABLES)
    else:  # just at the margin, where either word begins to be true
        assert max(found.count(SUPPORTED), found.count(CONTRADICTED)) <= at_most(0.05, TABLES)


@pytest.mark.parametrize("name", RULES)
def test_rule_sees_an_effect_that_is_larger_than_it_can_see(name):
    """At least 80 % of tables are supported where the effect is what the rule says that it could see."""
    rule = RULES[name]
    if rule.function:
        found = words(rule, lambda random: MAKERS[rule.function](rule, random, effect=True), POWER_TABLES, name)
        assert found.count(SUPPORTED) >= 0.8 * POWER_TABLES
        return
    parts, margin = len(rule.parts), max(part.margin for part in rule.parts)
    power = 1 - 0.2 / parts
    if all(part.relation == BETTER for part in rule.parts):
        effect = 3 * margin
        se = effect / 1.1 / (stats.t.ppf(0.975, df_of(rule)) + stats.t.ppf(power, df_of(rule)))
    else:  # alike parts have to be alike, and seen to be
        effect = 3 * margin
        se = min(part.margin for part in rule.parts) / 6
    targets = {index: effect if part.relation == BETTER else 0.0 for index, part in enumerate(rule.parts)}
    means = means_of(rule, targets)
    noise = noise_for(rule, means, se)
    found = words(rule, lambda random: table(rule, means, noise, random), POWER_TABLES, name)
    assert found.count(SUPPORTED) >= stats.binom.ppf(0.001, POWER_TABLES, 0.8)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.parts])
def test_identical_variants_are_never_found_to_differ(name):
    rule = RULES[name]
    means = means_of(rule, dict.fromkeys(range(len(rule.parts)), 0.0))
    verdict = apply_rule(rule, table(rule, means, dict.fromkeys(means, 0.0), np.random.default_rng(0)))
    expected = EQUIVALENT if any(part.relation == BETTER for part in rule.parts) else SUPPORTED
    # a fixed number on one side is not moved by what all repetitions share
    if all(isinstance(each, str) for part in rule.parts for each in (part.first, part.second)):
        assert verdict.verdict == expected
    else:
        assert verdict.verdict in (expected, INCONCLUSIVE, SUPPORTED if expected == SUPPORTED else EQUIVALENT)


def test_every_comparative_claim_has_a_rule_or_a_reason():
    assert [claim.id for claim in CLAIMS if not (claim.rule or claim.untested)] == []


def test_every_rule_asks_a_question():
    for name, rule in RULES.items():
        assert rule.asks.endswith((".", "?")) and len(rule.asks) > 30, name
        assert rule.margin.value > 0 and len(rule.margin.because) > 10, name


# ---- one rule, by hand


def claimed(rule: dict, **more) -> Claim:
    return Claim(**{"id": "c", "where": "", "says": "", "kind": "ordering", "judge": "measured", "rule": rule} | more)


RULE = EXAMPLE | {"needs": {"learned": "depth"}}


def measured(deep, shallow, baseline=0.5, **more) -> Measured:
    values = {
        ("depth", variant, metric): dict(enumerate(np.broadcast_to(scores, len(deep)).tolist()))
        for variant, scores in (("deep", deep), ("shallow", shallow), ("pixels", baseline))
        for metric in ("accuracy", "auroc")
    }
    return Measured(
        **{
            "chapter": "01_demo",
            "real": False,
            "tier": "pocket",
            "data": "phantoms",
            "weights": "pocket",
            "values": values,
            "sizes": dict.fromkeys(values, 200.0),
            "experiments": {"depth": {"unit": "seed", "baselines": ["pixels"], "section": "depth"}},
            "rules": {"c": rule_of(claimed(RULE)).digest},
        }
        | more
    )


def test_verdict_has_everything_that_it_rests_on():
    verdict = judge(claimed(RULE), measured([0.84, 0.86, 0.85], [0.80, 0.81, 0.79]))
    low, high = stats.t.interval(0.95, 2, 0.05, stats.sem([0.04, 0.05, 0.06]))
    assert (verdict.verdict, verdict.value) == (SUPPORTED, pytest.approx(0.05))
    assert (verdict.low, verdict.high) == pytest.approx((low, high))
    assert verdict.p == pytest.approx(stats.ttest_1samp([0.04, 0.05, 0.06], 0).pvalue)
    assert (verdict.runs, verdict.unit, verdict.images, verdict.margin) == (3, "seeds", 200, 0.02)
    assert (verdict.data, verdict.weights, verdict.chapter, verdict.section) == (
        "phantoms",
        "pocket",
        "01_demo",
        "depth",
    )
    assert json.loads(json.dumps(asdict(verdict)))["small_but_real"] is False
    assert verdict.exploratory == "" and "3 seeds, 200 test images each; data: phantoms" in verdict.because


def test_a_network_that_has_not_learned_may_not_speak():
    verdict = judge(claimed(RULE), measured([0.84, 0.86, 0.85], [0.80, 0.81, 0.79], baseline=[0.86, 0.85, 0.87]))
    assert verdict.verdict == NOT_TESTED
    assert verdict.reason.startswith("the network did not beat its baseline: auroc 0.850 (deep) against 0.860 (pixels)")
    # nor one whose lead may be luck
    unsure = judge(claimed(RULE), measured([0.84, 0.90, 0.85], [0.8, 0.8, 0.8], baseline=[0.85, 0.84, 0.82]))
    assert unsure.verdict == NOT_TESTED


@pytest.mark.parametrize(
    "needs, more, reason",
    [
        ({"data": "real"}, {}, "needs real data; this is phantom data"),
        ({"weights": "imagenet"}, {}, "needs imagenet weights; this run has pocket weights"),
        ({"tier": "paper"}, {}, "needs the paper's settings"),
        ({"runs": 5}, {}, "needs 5 seeds; this run has 3"),
        ({"images": 500}, {}, "needs 500 test images; this run has 200"),
        ({"passes": 5}, {}, "needs 5 passes over the training images; this run has 0"),
        ({"learned": "width"}, {}, "no run has measured width"),
    ],
)
def test_needs_that_are_not_met(needs, more, reason):
    verdict = judge(claimed(RULE | {"needs": needs}), measured([0.84, 0.86, 0.85], [0.80, 0.81, 0.79], **more))
    assert (verdict.verdict, verdict.reason) == (NOT_TESTED, reason)


def test_results_older_than_the_rule_are_exploratory():
    scores = [0.84, 0.86, 0.85], [0.80, 0.81, 0.79]
    assert judge(claimed(RULE), measured(*scores, rules={})).exploratory == "its rule was written after the run"
    changed = claimed(RULE | {"margin": 0.03, "margin_because": "the paper's own words"})
    assert judge(changed, measured(*scores)).exploratory == "its rule was changed after the run"
    reworded = claimed(RULE | {"asks": "Is the deeper of the two networks the more accurate one?"})
    assert judge(reworded, measured(*scores)).exploratory == ""


def test_claims_without_a_rule_say_why_they_are_not_tested():
    assert judge(claimed({}, untested="a statement about doctors"), None).because == "A statement about doctors."
    assert judge(claimed({}), None).reason == "this book measures nothing that could decide"
    assert judge(claimed({}, kind="count"), None).reason.startswith("a count")
    assert judge(claimed(RULE), None).reason == "no run has measured it"
    assert (
        judge(claimed(RULE | {"experiment": "width"}), measured([0.8] * 3, [0.7] * 3)).reason
        == "no run has measured it"
    )


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"compare": ["deep beats shallow"]}, "is not of the form 'A > B'"),
        ({"metric": "beauty"}, "no smallest difference that matters is known for 'beauty'"),
        ({"margin": 0.1}, "needs margin_because"),
        ({"needs": {"luck": 1}}, "its rule needs luck"),
        ({"paired_by": "day"}, "not 'day'"),
        ({"function": "oracle", "compare": []}, "no function is called 'oracle'"),
        ({"compare": []}, "either comparisons or a function"),
        ({"colour": "red"}, "unknown field in its rule: colour"),
    ],
)
def test_wrong_rules_are_refused(wrong, message):
    with pytest.raises(LedgerError, match=message):
        rule_of(claimed(RULE | wrong))


def test_printed_scores_need_real_data_and_the_papers_settings():
    claim = claimed(
        {"experiment": "depth", "variant": "deep", "metric": "accuracy", "times": 100},
        kind="metric",
        value=85,
        printed="85",
    )
    ours = [0.84, 0.86, 0.85]
    assert judge(claim, measured(ours, [0.8] * 3)).reason.startswith("a printed score needs real radiographs")
    real = {"real": True, "tier": "paper"}
    assert judge(claim, measured(ours, [0.8] * 3, **real)).verdict == "matches"
    assert judge(claim, measured([0.94, 0.95, 0.951], [0.8] * 3, **real)).verdict == "differs"
    wide = judge(claim, measured([0.5, 0.95, 0.7], [0.8] * 3, **real))
    assert wide.verdict == "inconclusive" and wide.because.startswith("Printed 85, ours 71.67 (")
    assert "nan" not in wide.because


def test_parts_are_read_in_both_directions():
    rule = rule_of(
        claimed(RULE | {"compare": ["deep < shallow", "deep <= 0.5", {"compare": "a ~ b", "metric": "gap"}]})
    )
    assert [(part.first, part.relation, part.second) for part in rule.parts] == [
        ("shallow", BETTER, "deep"),
        (0.5, AT_LEAST, "deep"),
        ("a", ALIKE, "b"),
    ]
    assert rule.parts[2] == Part("a", "b", ALIKE, "depth", "gap", 0.02)
