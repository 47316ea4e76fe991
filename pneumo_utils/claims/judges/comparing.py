"""Claims of order and of likeness: which is best, by how much, and whether one statement agrees with another."""

import colorsys
import math

from pneumo_utils.claims import public
from pneumo_utils.claims.judges.arithmetic import in_words, quantity
from pneumo_utils.claims.judges.registry import room
from pneumo_utils.claims.ledger import LedgerError
from pneumo_utils.claims.verdicts import Finding

judges, judge = room()

OPEN_WITHIN = 2  # standard errors: a gap below this many of them is not told apart from chance


def called(ledger, ref) -> str:
    """How a sentence names a claim: by what it says."""
    return ledger[ref].says


def shown(ledger, ref) -> str:
    return ledger[ref].printed or str(ledger[ref].value)


def share(score: float) -> float:
    """A score between 0 and 1, also where it is printed as a percentage."""
    return score / 100 if score > 1 else score


def standard_error(score: float, images: int) -> float:
    return math.sqrt(share(score) * (1 - share(score)) / images)


def errors_apart(first: float, second: float, images: int) -> float:
    """The gap of two accuracies in standard errors of their difference, as if each had been measured on its own draw of the images."""
    room_for_chance = math.hypot(standard_error(first, images), standard_error(second, images))
    return abs(share(first) - share(second)) / room_for_chance


def gap_in_images(first: float, second: float, images: int) -> str:
    gap = abs(share(first) - share(second))
    return (f"a gap of {100 * gap:.2f} points or about {gap * images:.0f} of {images:,} images, "
            f"{errors_apart(first, second, images):.1f} standard errors of such a difference")


@judge
def largest_of(claim, ledger, winner, among, images=None):
    """Is the winner ahead of all the others? A tie at the printed digits settles nothing. `images`: the scores are accuracies on so many."""
    rest = {ref: quantity(ledger, ref) for ref in among if ref != winner}
    second, best = max(rest, key=rest.get), quantity(ledger, winner)
    named = [in_words(ledger, ref) if "." in ref else f"{shown(ledger, ref)} ({called(ledger, ref)})" for ref in (winner, second)]
    apart = f": {gap_in_images(best, rest[second], images)}" if images else ""
    rank = ", the best of the others" if len(rest) > 1 else ""
    verdict = "consistent" if best > rest[second] else "inconsistent" if best < rest[second] else "unverifiable"
    return Finding(verdict, f"{named[0]} against {named[1]}{rank}{apart}." if verdict != "unverifiable"
                   else f"{named[0]} and {named[1]} are the same at the digits given.")


@judge
def smallest_of(claim, ledger, loser, among):
    rest = {ref: ledger.value(ref) for ref in among if ref != loser}
    last, low = min(rest, key=rest.get), ledger.value(loser)
    verdict = "consistent" if low < rest[last] else "inconsistent" if low > rest[last] else "unverifiable"
    return Finding(verdict, f"{shown(ledger, loser)} ({called(ledger, loser)}) against {shown(ledger, last)} ({called(ledger, last)}), "
                            "the lowest of the others.")


@judge
def in_order(claim, ledger, best_first):
    """A ranking from best to worst: one step upwards breaks it, a tie leaves it open."""
    steps = list(zip(best_first, best_first[1:]))
    values = ", ".join(f"{shown(ledger, ref)} ({called(ledger, ref)})" for ref in best_first)
    up = [pair for pair in steps if ledger.value(pair[0]) < ledger.value(pair[1])]
    ties = [pair for pair in steps if ledger.value(pair[0]) == ledger.value(pair[1])]
    if up:
        return Finding("inconsistent", f"As printed the order is broken: {values}.")
    if ties:
        tied = "; ".join(f"{called(ledger, a)} and {called(ledger, b)}" for a, b in ties)
        return Finding("unverifiable", f"The printed scores fall in this order but for a tie ({tied}): {values}.")
    return Finding("consistent", f"The printed scores fall in this order: {values}.")


@judge
def ahead_by(claim, ledger, first, second, images):
    """Is one accuracy above another by more than chance on the test images allows?"""
    a, b, images = ledger.value(first), ledger.value(second), quantity(ledger, images)
    how = (f"{shown(ledger, first)} ({called(ledger, first)}) against {shown(ledger, second)} ({called(ledger, second)}): "
           f"{gap_in_images(a, b, images)}")
    if a <= b:
        return Finding("inconsistent", f"{how}, and not ahead.")
    if errors_apart(a, b, images) < OPEN_WITHIN:
        return Finding("unverifiable", f"{how}; whether both models' errors fall on the same images, only their predictions can tell.")
    return Finding("consistent", f"{how}.")


@judge
def similar(claim, ledger, among, images):
    """No two of these accuracies are further apart than chance allows."""
    images = ledger.value(images)
    low, high = min(among, key=ledger.value), max(among, key=ledger.value)
    apart = errors_apart(ledger.value(low), ledger.value(high), images)
    return Finding("consistent" if apart < OPEN_WITHIN else "inconsistent",
                   f"From {shown(ledger, low)} ({called(ledger, low)}) to {shown(ledger, high)} ({called(ledger, high)}): "
                   f"{gap_in_images(ledger.value(low), ledger.value(high), images)}.")


@judge
def similar_or_better(claim, ledger, baseline, others, images):
    """No other accuracy is below the baseline by more than chance allows."""
    images, base, worst = ledger.value(images), ledger.value(baseline), min(others, key=ledger.value)
    low = ledger.value(worst)
    behind = low < base and errors_apart(low, base, images) >= OPEN_WITHIN
    return Finding("inconsistent" if behind else "consistent",
                   f"The lowest is {shown(ledger, worst)} ({called(ledger, worst)}) against {shown(ledger, baseline)} "
                   f"({called(ledger, baseline)}): {gap_in_images(low, base, images)}.")


def score(ledger, model: str, parts: list[str]) -> float:
    """The mean of a model's claims `model-part`: one part is a printed score, the two class recalls give the balanced accuracy."""
    return sum(ledger.value(f"{model}-{part}") for part in parts) / len(parts)


@judge
def best_by_each(claim, ledger, winner, models, measures, names):
    """A "best" that names no measure holds if every measure agrees, falls if none does, and is open where they differ."""
    agree, said = [], []
    for measure, parts in measures.items():
        scores = {model: score(ledger, model, parts) for model in models}
        top = max(scores.values())
        firsts = [model for model in models if scores[model] == top]
        agree.append(firsts == [winner])
        best = " and ".join(names[model] for model in firsts)
        said.append(f"by {measure} {best} ({top:.4g})" + ("" if winner in firsts else f", against {scores[winner]:.4g} of {names[winner]}"))
    verdict = "consistent" if all(agree) else "unverifiable" if any(agree) else "inconsistent"
    return Finding(verdict, f"The best is {'; '.join(said)}.")


@judge
def widest_spread(claim, ledger, metric, metrics, models):
    """In which score do these models differ most?"""
    spread = {}
    for name in metrics:
        values = [ledger.value(f"{model}-{name}") for model in models]
        spread[name] = max(values) - min(values)
    widest = max(spread, key=spread.get)
    listed = ", ".join(f"{name} {width:.4g}" for name, width in spread.items())
    return Finding("consistent" if widest == metric else "inconsistent", f"From the lowest to the highest model: {listed}.")


@judge
def each_ahead(claim, ledger, ahead, behind, models, names):
    """In every model one score is above another."""
    pairs = {model: (ledger.value(f"{model}-{ahead}"), ledger.value(f"{model}-{behind}")) for model in models}
    against = [names[model] for model, (a, b) in pairs.items() if a <= b]
    listed = ", ".join(f"{names[model]} {a:g} to {b:g}" for model, (a, b) in pairs.items())
    return Finding("inconsistent" if against else "consistent", f"Scores of {ahead} and of {behind}: {listed}.")


@judge
def moves(claim, ledger, before, after, way):
    """A change that is said to go up or down."""
    if way not in ("up", "down"):
        raise LedgerError(f"{claim.id}: a way is up or down, not {way!r}")
    a, b = quantity(ledger, before), quantity(ledger, after)
    went = "up" if b > a else "down" if b < a else "nowhere"
    return Finding("consistent" if went == way else "inconsistent", f"From {a:,} to {b:,} is {went}, and the sentence says {way}.")


@judge
def higher_on_each(claim, ledger, first, second, metrics, images):
    """Is the second run above the first in every score? Mixed signs leave the claim open."""
    steps = {metric: ledger.value(f"{second}-{metric}") - ledger.value(f"{first}-{metric}") for metric in metrics}
    listed = ", ".join(f"{metric} {step:+.2f}" for metric, step in steps.items())
    images, a, b = quantity(ledger, images), ledger.value(f"{first}-accuracy"), ledger.value(f"{second}-accuracy")
    verdict = ("inconsistent" if not any(step > 0 for step in steps.values()) else
               "unverifiable" if any(step < 0 for step in steps.values()) else "consistent")
    return Finding(verdict, f"Gains: {listed}; in accuracy {gap_in_images(a, b, images)}.")


def gains(ledger, model: str, before: str, after: str, metrics) -> dict[str, float]:
    return {metric: round(ledger.value(f"{model}-{after}-{metric}") - ledger.value(f"{model}-{before}-{metric}"), 6) for metric in metrics}


@judge
def gains_in_order(claim, ledger, most_first, before, after, metrics, names):
    """The gain of each model falls from one to the next, in every score."""
    gained = {model: gains(ledger, model, before, after, metrics) for model in most_first}
    kept = [all(gained[a][metric] > gained[b][metric] for a, b in zip(most_first, most_first[1:])) for metric in metrics]
    listed = "; ".join(f"{metric} " + ", ".join(f"{names[model]} {gained[model][metric]:+.2f}" for model in most_first) for metric in metrics)
    verdict = "consistent" if all(kept) else "unverifiable" if any(kept) else "inconsistent"
    return Finding(verdict, f"Gains: {listed}.")


@judge
def gains_most(claim, ledger, winner, models, before, after, metrics, names):
    """One model gains more than each of the others, in every score."""
    gained = {model: gains(ledger, model, before, after, metrics) for model in models}
    most = [all(gained[winner][metric] > gained[model][metric] for model in models if model != winner) for metric in metrics]
    listed = "; ".join(f"{metric} " + ", ".join(f"{names[model]} {gained[model][metric]:+.2f}" for model in models) for metric in metrics)
    verdict = "consistent" if all(most) else "unverifiable" if any(most) else "inconsistent"
    return Finding(verdict, f"Gains: {listed}.")


@judge
def best_in_each_group(claim, ledger, winner, models, groups, metrics, names):
    """A "best" that names no group of runs: it holds if each group agrees in every score, falls if none does, and is open where they differ."""
    ahead, said = [], []
    for group in groups:
        scores = {metric: {model: ledger.value(f"{model}-{group}-{metric}") for model in models} for metric in metrics}
        ahead.append(all(row[winner] > row[model] for row in scores.values() for model in models if model != winner))
        best = {metric: max(value for model, value in row.items() if model != winner) for metric, row in scores.items()}
        against = ", ".join(f"{metric} {row[winner]:.2f} to at best {best[metric]:.2f}" for metric, row in scores.items())
        said.append(f"{names[winner]} {'is' if ahead[-1] else 'is not'} ahead in {groups[group]} ({against})")
    verdict = "consistent" if all(ahead) else "unverifiable" if any(ahead) else "inconsistent"
    return Finding(verdict, "; ".join(said) + ".")


@judge
def no_gap(claim, ledger, pairs, images):
    """No training accuracy lies above its validation accuracy by more than chance on the validation images allows."""
    images, wide, said = ledger.value(images), False, []
    for training, validation in pairs:
        t, v = ledger.value(training), ledger.value(validation)
        wide |= share(t) - share(v) > OPEN_WITHIN * standard_error(v, images)
        said.append(f"{shown(ledger, training)} in training against {shown(ledger, validation)} in validation")
    return Finding("inconsistent" if wide else "consistent",
                   f"The paper itself prints {' and '.join(said)}; chance on {images:,} images accounts for about "
                   f"{100 * OPEN_WITHIN * standard_error(v, images):.1f} points.")


@judge
def gap_grows(claim, ledger, early, late):
    """Training and validation accuracy, [training, validation] at two times: do they part?"""
    gaps, said = [], []
    for training, validation in (early, late):
        gaps.append(ledger.value(training) - ledger.value(validation))
        said.append(f"{shown(ledger, training)} - {shown(ledger, validation)} = {gaps[-1]:g} points")
    return Finding("consistent" if gaps[1] > gaps[0] else "inconsistent", f"Training less validation accuracy goes from {said[0]} to {said[1]}.")


def majority(ledger, positives, negatives) -> tuple[float, str]:
    """What always giving the commoner answer scores, in percent, and how that reads."""
    counts = [quantity(ledger, positives), quantity(ledger, negatives)]
    percent = 100 * max(counts) / sum(counts)
    return percent, f"always giving the commoner answer scores {percent:.2f} % ({max(counts):,} of {sum(counts):,})"


@judge
def beside_majority(claim, ledger, positives, negatives):
    """An accuracy that cannot be recomputed, with the score of a constant answer to read it by."""
    _, said = majority(ledger, positives, negatives)
    return Finding("unverifiable", f"A measured result; to read it by, {said}.")


@judge
def beats_majority(claim, ledger, accuracy, positives, negatives):
    """A model that did well is above a constant answer."""
    baseline, said = majority(ledger, positives, negatives)
    ours = 100 * share(ledger.value(accuracy))
    return Finding("consistent" if ours > baseline else "inconsistent", f"{shown(ledger, accuracy)} ({called(ledger, accuracy)}); {said}.")


@judge
def reads_as_share(claim, ledger, above):
    """A percentage said to lie above another: does it, as printed, or only if it is a share that was given a percent sign?"""
    other = ledger.value(above)
    if claim.value > other:
        return Finding("consistent", f"{claim.printed} lies above {shown(ledger, above)} as the text says.")
    if 100 * claim.value > other:
        return Finding("inconsistent", f"The text calls {claim.printed} higher than {shown(ledger, above)}; "
                                       f"it is only as a share, {100 * claim.value:g} %.")
    return Finding("inconsistent", f"{claim.printed} is not higher than {shown(ledger, above)}.")


@judge
def loss_per_batch(claim, ledger, images, batch):
    """A loss summed over an epoch, brought down to one batch; without a log nothing more can be said."""
    batches = math.ceil(ledger.value(images) / ledger.value(batch))
    return Finding("unverifiable", f"A measured result; if it is a sum over {batches:,} batches of {ledger.value(batch)}, one batch has "
                                   f"{claim.value / batches:.3f}, and equal odds for both classes would cost {math.log(2):.3f}.")


def in_one(claim) -> str:
    """What a claim prints, on one line."""
    return claim.printed or (", ".join(map(str, claim.value)) if isinstance(claim.value, list) else str(claim.value))


@judge
def says_the_same(claim, ledger, as_in):
    """Two places of the paper that ought to agree."""
    other = ledger[as_in]
    same = claim.value == other.value
    return Finding("consistent" if same else "inconsistent",
                   f"It is {in_one(claim)} here, and {in_one(other)} in “{other.where}”.")


@judge
def kind_of_error(claim, ledger, truth, answer):
    """Which error it is to give this answer when that is the truth, of a model that looks for pneumonia."""
    named = f"{'true' if truth == answer else 'false'} {'positive' if answer == 'pneumonia' else 'negative'}"
    return Finding("consistent" if claim.value == named else "inconsistent",
                   f"A {truth} image that is called {answer} is a {named}; the text says {claim.value}.")


@judge
def counted(claim, ledger, items):
    """A number of things that can be counted in the paper: items named here, or the list that another claim holds."""
    things = ledger.value(items) if isinstance(items, str) else items
    return Finding("consistent" if len(things) == claim.value else "inconsistent", f"There are {len(things)}: {', '.join(map(str, things))}.")


@judge
def each_reported(claim, ledger, methods, among):
    """Every method that is announced has a model in the list; a method is known by words that must all stand in the model's name."""
    models = ledger.value(among)
    absent = [method for method, words in methods.items() if not any(all(word in model for word in words) for model in models)]
    listed = ", ".join(models)
    return Finding("inconsistent" if absent else "consistent",
                   f"The models reported are {listed}" + (f"; none of them is {' or '.join(absent)}." if absent else ", which covers each."))


@judge
def places_in(claim, ledger, order, places):
    """The things at these places of a list, counted from one."""
    found = [ledger.value(order)[place - 1] for place in places]
    return Finding("consistent" if found == claim.value else "inconsistent",
                   f"In {called(ledger, order)}, places {', '.join(map(str, places))} are {', '.join(map(str, found))}.")


@judge
def apart_from_each_other(claim, ledger, whole, parts):
    """Sets that share no image cannot hold more images together than there are."""
    total, there_are = sum(ledger.value(ref) for ref in parts), ledger.value(whole)
    sizes = " + ".join(f"{ledger.value(ref):,}" for ref in parts)
    if total > there_are:
        return Finding("inconsistent", f"{sizes} = {total:,} of {there_are:,} images: the sets share at least {total - there_are:,}.")
    return Finding("unverifiable", f"{sizes} = {total:,} of {there_are:,} images: nothing forces the sets to overlap.")


@judge
def none_of(claim, ledger, exceptions):
    """A statement about all images of a public set, which a public count of exceptions refutes."""
    count = public.fact(exceptions)
    return Finding("inconsistent" if count else "consistent", f"By {public.source(exceptions)}: {exceptions} = {count:,}, and so many images are not so.")


@judge
def one_of_public(claim, ledger, fact):
    """A number that has to stand in a public list."""
    listed = public.fact(fact)
    return Finding("consistent" if claim.value in listed else "inconsistent",
                   f"{claim.value} is {'one' if claim.value in listed else 'none'} of {', '.join(map(str, listed))} ({public.source(fact)}).")


@judge
def effect_after_cause(claim, ledger, cause, effect, at):
    """A cause that begins after a moment explains nothing that the text places before it."""
    moment = ledger.value(at)
    return Finding("inconsistent" if (cause, effect) == ("after", "before") else "unverifiable",
                   f"The effect is placed {effect} epoch {moment}, and its cause begins {cause} it.")


@judge
def coincide(claim, ledger, first, second):
    """Two possible causes at one and the same moment cannot be told apart there."""
    a, b = ledger.value(first), ledger.value(second)
    if a == b:
        return Finding("unverifiable", f"Two things fall on epoch {a}, {called(ledger, first)} and {called(ledger, second)}; "
                                       "the curve cannot tell them apart.")
    return Finding("unverifiable", f"{called(ledger, first)} falls on epoch {a}, {called(ledger, second)} on {b}; the curve's numbers are not printed.")


@judge
def needs_two_values(claim, ledger, of, runs):
    """An effect of a setting can be seen only where runs differ in it."""
    return Finding("unverifiable", f"All {ledger.value(runs)} runs that are reported share one value of {called(ledger, of)}, {shown(ledger, of)}; "
                                   "runs with another are not shown.")


@judge
def colour_of_grey(claim, ledger, hue, saturation):
    """What a change of hue and saturation does to a grey pixel, for the two usual ways of making it (factor, or shift on a scale of 255)."""
    grey = 128 / 255
    h, s, v = colorsys.rgb_to_hsv(grey, grey, grey)
    factor = [round(255 * c) for c in colorsys.hsv_to_rgb(h * ledger.value(hue) % 1, min(1, s * ledger.value(saturation)), v)]
    shift = [round(255 * c) for c in colorsys.hsv_to_rgb(h + ledger.value(hue) / 255, s + ledger.value(saturation) / 255, v)]
    return Finding("unverifiable", f"Which change is made is not said: grey 128, 128, 128 stays {', '.join(map(str, factor))} under factors and turns "
                                   f"{', '.join(map(str, shift))}, no longer grey, under shifts.")
