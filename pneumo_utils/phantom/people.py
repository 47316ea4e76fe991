"""Who comes to be photographed: patients, visits, ages, findings and labels, each a function of (seed, index)."""

import numpy as np
import pandas as pd

from pneumo_utils.phantom.marginals import NO_FINDING, draw_finding_sets
from pneumo_utils.phantom.random import Draws

# Blocks of images are shared out among whole patients, so that image 7's patient needs no look at images 0 to 6 of
# another block.
_BLOCK = {"children": 60, "adults": 60, "nih": 240, "covid": 60}
# Chance that a patient has another image after this one: images a patient 1.5, 1, 3.6 and 1.2 on average.
_ANOTHER = {"children": 0.36, "adults": 0.0, "nih": 0.0, "covid": 0.15}

# Kermany et al.: 1,583 normal, 2,780 bacterial, 1,493 viral. Sait et al.: 3,270 normal, 3,001 bacterial, 1,656 viral,
# 1,281 COVID-19.
_CAUSES = {
    "children": (("normal", 1583), ("bacterial", 2780), ("viral", 1493)),
    "covid": (("normal", 3270), ("bacterial", 3001), ("viral", 1656), ("covid", 1281)),
}
# RSNA 2018: 8,851 Normal, 11,821 No Lung Opacity / Not Normal, 6,012 Lung Opacity.
_RSNA_NORMAL, _RSNA_OPACITY = 8851 / 26684, 6012 / 26684
# Where a child is photographed depends on how ill it is (rows: cause; columns: cumulative share of sites 0, 1, 2).
_CHILD_SITE = {"normal": (0.60, 0.74, 0.78), "bacterial": (0.10, 0.38, 0.84), "viral": (0.32, 0.52, 0.66)}

# In ChestX-ray14 films labelled pneumonia are processed darker on the whole (mean grey 131 against 149 of No Finding):
# they come from
# wards with other machines. What an adult's film shows of the machine therefore misleads about children.
_ADULT_SITE = {"none": (0.14, 0.54, 0.88), "other": (0.25, 0.50, 0.80), "pneumonia": (0.42, 0.51, 0.62)}


def patients_of(kind, seed, index):
    """Patient and visit number of each image."""
    index = np.asarray(index, dtype=np.int64)
    block = _BLOCK[kind]
    number, place = index // block, index % block
    blocks, inverse = np.unique(number, return_inverse=True)
    slots = blocks[:, None] * block + np.arange(block)
    draws = Draws(seed, slots.ravel())
    another = draws.uniform("another image").numpy().reshape(slots.shape)
    chance = _ANOTHER[kind]
    # most people are seen once or a few times, some very often: the chance to return is the patient's own
    if kind == "nih":
        devotion = draws.uniform("devotion").numpy().reshape(slots.shape)
        starts = np.zeros(slots.shape, bool)
        own = devotion[:, 0].copy()
        starts[:, 0] = True
        for j in range(1, block):
            stays = another[:, j] < own**1.45
            starts[:, j] = ~stays
            own = np.where(stays, own, devotion[:, j])
    else:
        starts = another >= chance
        starts[:, 0] = True
    first = np.maximum.accumulate(np.where(starts, np.arange(block), 0), axis=1)
    return blocks[inverse] * block + first[inverse, place], place - first[inverse, place]


def _choose(table, uniform):
    names, counts = zip(*table)
    place = np.searchsorted(np.cumsum(counts) / np.sum(counts), uniform, side="right")
    return np.array(names, dtype=object)[place.clip(max=len(names) - 1)]


def _findings(kind, patient, shot, cause):
    """Joined names of what is in the image."""

    def u(draws, name):
        return draws.uniform(name).numpy()

    if kind == "nih":
        same = u(shot, "same findings as ever") < 0.4
        return draw_finding_sets(np.where(same, u(patient, "lasting findings"), u(shot, "findings")))
    if kind == "adults":
        out = np.full(len(u(shot, "class")), NO_FINDING, dtype=object)
        grade = u(shot, "class")
        opacity = grade >= 1 - _RSNA_OPACITY
        other = (grade >= _RSNA_NORMAL) & ~opacity
        out[opacity] = np.where(u(shot, "with effusion") < 0.2, "Effusion|Pneumonia", "Pneumonia")[opacity]
        out[other] = _choose(
            (("Cardiomegaly", 20), ("Nodule", 10), ("Emphysema", 12), ("Effusion", 10), ("Atelectasis", 14), ("Fibrosis", 9), ("Mass", 6),
             ("Pneumothorax", 6), ("Pleural_Thickening", 7), ("Hernia", 3), ("Atelectasis|Cardiomegaly", 4), ("Cardiomegaly|Effusion", 5)),
            u(shot, "other finding"),
        )[other]  # fmt: skip
        return out
    ill = cause != "normal"
    parapneumonic = (cause == "bacterial") & (u(shot, "with effusion") < 0.12)
    return np.where(parapneumonic, "Effusion|Pneumonia", np.where(ill, "Pneumonia", NO_FINDING)).astype(object)


def _causes(kind, patient, shot, findings=None):
    if kind in _CAUSES:
        return _choose(_CAUSES[kind], patient.uniform("cause").numpy())
    pneumonia = np.array(["Pneumonia" in f.split("|") for f in findings])
    cause = np.where(shot.uniform("cause").numpy() < 0.75, "bacterial", "viral").astype(object)
    cause[~pneumonia] = ""
    cause[findings == NO_FINDING] = "normal"
    return cause


def _ages(kind, patient, visit, cause):
    """Years; children 1 to 5 with the ill ones younger on the whole, adults as in the NIH table (mean 47, deviation
    17).
    """
    u = patient.uniform("age").numpy()
    if kind == "children":
        young = np.where(cause == "normal", 0.8, np.where(cause == "viral", 1.05, 1.25))
        return (1 + 4 * u**young).round(1)
    spread = patient.normal("age").numpy()
    return (np.clip(47 + 16.8 * spread, 16, 94) + 0.4 * visit).round(0)


def _labels(kind, findings, label_noise, shot):
    """What text-mining would say: another report's findings in a share `label_noise` of the images."""
    label = findings.copy()
    wrong = (shot.uniform("label is wrong") < label_noise).numpy()
    if kind == "nih":
        other = draw_finding_sets(shot.uniform("wrong label").numpy())
        spare = draw_finding_sets(shot.uniform("second wrong label").numpy())
        other = np.where(other == findings, spare, other)
        swapped = np.where(findings == NO_FINDING, "Infiltration", NO_FINDING)
        other = np.where(other == findings, swapped, other)
    else:
        pneumonia = np.array(["Pneumonia" in f for f in findings])
        other = np.where(pneumonia, NO_FINDING, "Pneumonia")
    label[wrong] = other[wrong]
    return label


def tabulate(kind, seed, index, label_noise=0.0):
    """One row an image, index = image index."""
    index = np.asarray(list(index), dtype=np.int64)
    if len(index) and index.min() < 0:
        raise ValueError("image indices start at 0")
    patient_number, visit = patients_of(kind, seed, index)
    patient, shot = Draws(seed, patient_number), Draws(seed + 7919, index)
    cause = _causes(kind, patient, shot) if kind in _CAUSES else None
    findings = _findings(kind, patient, shot, cause)
    if cause is None:
        cause = _causes(kind, patient, shot, findings)
    ill = findings != NO_FINDING
    severity = np.where(
        ill, 0.12 + 0.88 * shot.uniform("severity").numpy() ** (0.9 if kind == "children" else 2.8), 0.0
    )
    # How ill the person seems, which decides how the film is taken: the iller, the shallower the breath and the more
    # lines and rotation.
    acuity = shot.uniform("acuity").numpy() * np.where(ill, 0.5, 0.42) + 0.3 * severity
    acuity = acuity + np.where(ill, 0.32 if kind == "children" else 0.05, 0.0) - np.where(cause == "viral", 0.12, 0.0)
    acuity = np.clip(acuity, 0, 1)
    frail = shot.uniform("view").numpy()
    if kind == "children":
        site = sum(
            (patient.uniform("site").numpy() >= np.array([_CHILD_SITE[c][k] for c in cause])).astype(int)
            for k in range(3)
        )
        view = np.where(frail < 0.25 + 0.75 * acuity + 0.3 * (site == 2), "AP", "PA")
    elif kind == "covid":
        site = np.array([0, 1, 3])[(patient.uniform("site").numpy() * 3).astype(int)]  # not the ward's portable machine
        view = np.full(len(index), "PA", dtype=object)
    else:
        group = np.where(["Pneumonia" in f.split("|") for f in findings], "pneumonia", np.where(ill, "other", "none"))
        place = np.where(
            shot.uniform("same site as ever").numpy() < 0.6,
            patient.uniform("site").numpy(),
            shot.uniform("site").numpy(),
        )
        site = sum((place >= np.array([_ADULT_SITE[g][k] for g in group])).astype(int) for k in range(3))
        view = np.where((site == 2) | (frail < 0.05 + 0.35 * acuity), "AP", "PA")
    return pd.DataFrame(
        {
            "patient": patient_number,
            "visit": visit,
            "age": _ages(kind, patient, visit, cause),
            "sex": np.where(patient.uniform("sex").numpy() < 0.565, "M", "F"),
            "view": view,
            "site": site,
            "findings": findings,
            "label": _labels(kind, findings, label_noise, shot),
            "cause": cause,
            "severity": severity.astype(np.float32),
            "acuity": acuity.astype(np.float32),
        },
        index=pd.Index(index, name="index"),
    )
