"""Draw the patients of a phantom population: findings, cause, age, sex, view and scanner of each image."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pneumo_utils.data.readers.nih import NO_FINDING, PUBLISHED_FINDINGS
from pneumo_utils.phantom.counter_rng import CounterRNG

FINDINGS = PUBLISHED_FINDINGS
FINDING_LETTERS = dict(zip("ACEIMNPXKOSFTH", FINDINGS))  # the letters of the sets below

# Counts of each set of labels in the 112,120 rows of Data_Entry_2017_v2020.csv (column "Finding Labels", NIH Clinical
# Center), counted with pandas.value_counts. One letter per finding, "-" for none.
_COUNTED_SETS = """
-:60361 I:9547 A:4215 E:3955 N:2705 X:2194 M:2139 EI:1604 AI:1350 K:1310 AE:1167 T:1126 C:1093 S:892 IN:829 AEI:739 F:727 O:628 CE:484
IK:441 IM:420 EX:403 EM:402 AK:398 MN:396 IO:392 IX:347 XS:337 EK:337 P:322 ET:251 EN:250 AX:241 IT:210 CI:201 AN:201 AEK:200 IP:199 EO:189
IF:185 MX:179 AM:178 MK:151 NT:141 IPO:138 EIK:134 MT:132 NX:130 NK:128 EIO:127 IS:126 CEI:120 AS:117 AT:117 H:110 AP:108 EIN:106 AF:104
AIK:104 EIM:99 AEX:99 ES:96 EIX:88 AC:88 PO:83 AEIK:81 XT:79 AEM:72 AIX:72 IXS:72 EIT:71 FT:70 ACE:68 IMN:67 AIM:67 MS:66 NF:66 EMK:65
EMN:65 EF:59 AIN:57 AXS:54 ACEI:54 EP:54 KO:49 XK:49 AO:48 AET:47 INK:47 EXS:47 KT:46 ST:46 AIT:45 AEIX:44 AEN:43 IMK:42 EIP:42 AEIT:41
CK:40 AIS:40 AEIM:38 EMT:38 AEMK:37 PK:36 CO:35 AIO:35 CET:34 AIP:34 MF:34 EXT:34 AMK:34 ENT:31 INO:31 INX:31 ACI:31 MXS:30 MNT:30 INT:29
NS:29 ENK:28 NO:28 AIXS:27 AES:26 IMT:25 IKO:25 AEIO:24 EIS:24 KF:24 EMX:24 MNK:24 AMN:24 AXK:23 IMO:23 AEP:23 XF:23 CN:22 IXT:22 EXK:22
CEK:22 AEO:22 EIMN:22 AEIN:21 EIPO:21 AH:21 AIF:21 IXK:20 IKT:20 NXS:20 KS:20 CS:19 NP:19 EPO:19 CEO:18 CM:18 AXT:18 AEIP:18 MO:18 MNX:18
AEIS:18 EINT:17 IFT:16 INF:16 EIF:16 NFT:16 EIMT:16 IMS:16 ANK:16 AEMNK:16 AKT:16 AMX:16 IH:15 IMX:15 EIMK:15 EINK:15 MH:15 OT:15 AMS:15
AEF:15 MXT:15 EMO:15 AEXS:15 AEMN:15 CEN:15 APK:15 ENX:15 CEM:14 CT:14 EST:13 SF:13 IPK:13 IMNK:13 AEIMNK:13 XST:13 OS:13 EIXS:12 ANT:12
CIK:12 ACEIK:12 AEMKT:11 PT:11 EKT:11 MP:11 INP:11 CEIN:11 EKO:11 MNF:11 EMNK:11 CEIO:10 CIO:10 AIMT:10 AIMK:10 ACK:10 EIOT:10 EXF:10 AKS:10
MKT:10 CEF:10 EIKT:10 ENO:10 EMS:10 EMNX:10 XKS:10 EINX:10 EINO:9 ACEK:9 IKF:9 IMP:9 AENK:9 AEKO:9 CX:9 EMNT:9 AEKT:9 CES:9 ANX:9 IXF:9
EIMX:9 AEIMN:9 INS:8 EPK:8 CP:8 IMNX:8 AXKS:8 EFT:8 ANF:8 EMF:8 AIMN:8 IMNT:8 AFT:8 MNO:8 EIMNT:8 CEIK:8 CEP:7 CF:7 IST:7 XFT:7 KFT:7 MXK:7
CIN:7 AINX:7 AMT:7 EIMNK:7 AIMF:7 AEXK:7 AEIMKT:7 IXST:6 ACF:6 IMKT:6 IPX:6 NKF:6 NKT:6 AKO:6 CIF:6 NXK:6 CIT:6 NXT:6 NH:6 ACEIN:6 MNP:6
AEIMX:6 IMPO:6 IMXS:6 IPOT:6 AIXT:6 AENX:6 AIPO:6 XO:6 ACEIT:6 AEIKT:6 MNKT:6 PF:5 PS:5 EIPK:5 IMF:5 AEIXK:5 EIXK:5 ANP:5 IKS:5 AEKS:5
AEIMK:5 AIMX:5 AENT:5 AEXT:5 ENS:5 PX:5 CEIT:5 MNS:5 EMXT:5 AEMT:5 AXH:5 EH:5 MST:5 EIKO:5 EIST:5 CEXS:5 EPX:4 AEST:4 CINO:4 EIPT:4 CIX:4
AINT:4 ACEM:4 IPT:4 AEIKO:4 EIMO:4 EMXK:4 AIKS:4 ACIK:4 AIPKO:4 AIPK:4 AMXS:4 ACET:4 AEKF:4 CEIX:4 MPO:4 AEMX:4 AST:4 INXS:4 AINXS:4 MKFT:4
XSF:4 AEH:4 EIMKO:4 CEIM:4 AINK:4 MKS:4 ACEN:4 AEIMKS:4 EMKO:4 AEIMT:4 AIXST:4 AEINX:4 EMNKT:4 IPOS:4 IPXO:4 EINXT:4 CEMS:3 CMT:3 ENFT:3
CEKO:3 CEIPO:3 INKF:3 IMFT:3 ACEMK:3 CKO:3 EIXT:3 AEPK:3 IMNF:3 NST:3 AEIXT:3 AEIPO:3 ENXT:3 CIPO:3 KST:3 AINO:3 ACP:3 ACO:3 AMF:3 CEMNK:3
MFT:3 ACT:3 CEIF:3 ANO:3 ACEIM:3 AEIF:3 AEIKS:3 AIMXS:3 AIXK:3 ACEO:3 CPK:3 IMXK:3 IXFT:3 EXST:3 AKF:3 EMP:3 AIMO:3 EMNO:3 AEPX:3 CMO:3
CEX:3 NPO:3 ENXKS:3 ANKT:3 IPKO:3 EMKT:3 CEMN:3 AMNT:3 AIMKT:3 ACENT:3 AEMST:3 EINP:3 CIMN:2 CXS:2 APKO:2 EIPOT:2 CH:2 CEH:2 IOT:2 CEXFT:2
ENPO:2 FH:2 AIPS:2 ANKF:2 OF:2 EPF:2 POT:2 ANH:2 CEIXS:2 ACEP:2 IMXKT:2 ENXS:2 MXF:2 AIMNK:2 ANST:2 TH:2 AXST:2 CENF:2 AEPXO:2 CEIFT:2
AEINK:2 AMNK:2 AIST:2 IXKT:2 IPKT:2 CNF:2 AIMS:2 AIOT:2 ANXS:2 XOS:2 AIH:2 IMH:2 EIMOF:2 CEINO:2 AEIMNT:2 XKF:2 CIM:2 INKO:2 AMP:2 AMXK:2
KH:2 MNFT:2 AEIMNXT:2 AIPT:2 EIH:2 MKF:2 CKT:2 IMKO:2 AEIMF:2 IXKS:2 AEINT:2 ANS:2 AMXT:2 APS:2 ACEKOT:2 PXS:2 EXO:2 EOS:2 XH:2 ACEX:2
AENO:2 CEMK:2 EIPX:2 AEFT:2 ACEIKO:2 EMPK:2 EINF:2 AEMKS:2 NXF:2 AEMNKT:2 AEIXS:2 CEMF:2 AIMPK:2 EIMPT:2 CENT:2 AEIMO:2 EIMP:2 CEMX:2
IMNXT:2 CEMT:2 ACEIX:2 CEMNO:2 EMXS:2 ACEIMKT:2 IMXT:2 AXF:2 INKT:2 AEMS:2 CIP:2 EIXST:2 ACMXS:1 EMNFT:1 CEIOF:1 ACIX:1 AMO:1 INPF:1 CINP:1
EXKO:1 IPF:1 MNXK:1 EMNSF:1 AOT:1 MNXS:1 ACEIXO:1 EMKF:1 MXOS:1 NXO:1 NPKF:1 EMTH:1 NPT:1 IPS:1 IPST:1 AEKOT:1 IXO:1 ETH:1 ENXSF:1 EINXS:1
AEMKF:1 AIKF:1 COT:1 ACEF:1 CEPO:1 ACIO:1 ACEIF:1 EPT:1 ISFTH:1 EIFT:1 PXK:1 XKO:1 IMNOT:1 EXKS:1 INXK:1 CXKS:1 ACENF:1 ANOS:1 CIKO:1
AIXKS:1 CMN:1 ISF:1 AMH:1 AENKF:1 EIPFT:1 AEIXKT:1 EIMF:1 AMXSF:1 MFH:1 AMPK:1 STH:1 SH:1 APXKO:1 AFH:1 EIOS:1 CNK:1 EIMOS:1 MKH:1 AIMNF:1
IPKH:1 EPH:1 IPH:1 EIOH:1 AINF:1 MSF:1 EIMNPKT:1 IMPXO:1 EMNKO:1 APXS:1 ACFT:1 EIMNPT:1 EIXKT:1 AIMP:1 AEMNO:1 CEIKO:1 ACIM:1 EXKT:1 CMK:1
ACEIPK:1 EIMNP:1 INKST:1 AEXKS:1 IMPOS:1 EMH:1 EPOT:1 ACKO:1 EMKS:1 EIMNX:1 AEKFT:1 AEIKFT:1 AEINOT:1 EPKO:1 IPKOT:1 EOT:1 ANPK:1 AIXKT:1
AEIMXK:1 AINXF:1 AEXF:1 MPXK:1 MXKS:1 IMNPO:1 AEMXS:1 EIMXK:1 AENXK:1 AEIPK:1 CXF:1 AIKT:1 CEIP:1 MPXS:1 AEIMNXK:1 IMNO:1 EIMS:1 AISF:1
AMNP:1 CEIMKT:1 AEINF:1 EMFT:1 CEXT:1 AEMXKS:1 AEIPKO:1 EMPX:1 AEINKT:1 EIKS:1 CEOFH:1 AEPKO:1 ACEINKT:1 ACEKT:1 AEMNKSF:1 ENP:1 PKS:1
AMNXK:1 EMNP:1 EMNXT:1 IMNOF:1 CEOT:1 AEIH:1 AMSF:1 IMNKS:1 CEIMP:1 AIKO:1 EMNF:1 EIMPO:1 AMKST:1 INPO:1 EIMNS:1 ACEIMKO:1 AMKT:1 EIXO:1
MXSFT:1 CEIMPOT:1 CESF:1 EMXSF:1 CEMXK:1 EMXO:1 AMNKT:1 ACEMT:1 INXKST:1 NKO:1 CNO:1 CIH:1 ACEMNK:1 PXO:1 CINX:1 CEMNKT:1 CEMNKOT:1 CEIKT:1
CEKT:1 MSFH:1 CEINK:1 IXH:1 CEIMNT:1 AMNX:1 IMKFT:1 ACMXF:1 AIMXST:1 AMXST:1 AMNXKST:1 EMNS:1 AEIMKFT:1 AEIMKF:1 ACEMKO:1 AOS:1 AXOS:1 ENF:1
ACEMN:1 ACEFT:1 AEMNXK:1 AINKT:1 ACEIMNKO:1 ACEMKT:1 EXFT:1 ANSF:1 ENST:1 EIMXT:1 EINXFT:1 ACX:1 ACEIMX:1 AINOT:1 IMNP:1 CEIMNK:1 IMOF:1
ACEIO:1 MXKT:1 AEIMNXKFT:1 IMNKT:1 MOT:1 AEIMNKT:1 ANXKT:1 AMNXKT:1 EIMNXKT:1 ASFT:1 INFT:1 INOT:1 ANXSFT:1 ACEIMT:1 AEPO:1 CENO:1 EMNXK:1
MNPK:1 EINS:1 IMXO:1 CNP:1 ITH:1 AEIOH:1 AENXKS:1 EINST:1 AEINKS:1 KOT:1 ACEIOT:1 IOF:1 IFH:1 AXKT:1 ACEIP:1 AMOT:1 ATH:1 INPK:1 CEKOT:1
ACEINPO:1 AEMXO:1 INXT:1 IMPT:1 IXSF:1 NXST:1 AIFT:1 IPXOT:1 AEIMNPKOT:1 AEIMOS:1 CEIMK:1 IXOS:1 XKT:1 EIPS:1 AMKOT:1 EPXOT:1 MNXST:1 EMST:1
CEIS:1 AIPXS:1 AMXKS:1 EMNKFT:1 APO:1 AEIOT:1 EIMKT:1 IMST:1 AEIST:1 AEIXST:1 MNPX:1 IMNST:1 ACEXK:1 ASF:1 AINXSF:1 MNST:1 ACEIMK:1 AEIPX:1
CMH:1 INH:1 INKS:1 CEPK:1 INXST:1 ANXT:1 NPK:1 AEXST:1 MPK:1 EKS:1 AIMNXH:1 AMXKT:1
"""


def _parse_counts(text):
    """Read the names and counts of sets of findings from text."""
    sets, counts = zip(*(item.split(":") for item in text.split()))
    names = ["|".join(FINDING_LETTERS[c] for c in letters) if letters != "-" else NO_FINDING for letters in sets]
    return names, np.array([int(n) for n in counts])


FINDING_SETS, FINDING_SET_COUNTS = _parse_counts(_COUNTED_SETS)
FINDING_SET_CUMULATIVE = np.cumsum(FINDING_SET_COUNTS) / FINDING_SET_COUNTS.sum()


def draw_finding_sets(uniform: np.ndarray) -> np.ndarray:
    """Draw sets of findings with the frequencies of ChestX-ray14.

    uniform: random numbers in [0, 1), array (n,).

    Returns an array of names, joined by "|".
    """
    index = np.searchsorted(FINDING_SET_CUMULATIVE, uniform, side="right")
    return np.array(FINDING_SETS, dtype=object)[index.clip(max=len(FINDING_SETS) - 1)]


# Images are assigned to patients in blocks of this size. Thus the patient of an image does not depend on images of
# other blocks.
_BLOCK = {"children": 60, "adults": 60, "nih": 240, "covid": 60}
# Probability that a patient has another image after this one. On average patients have 1.5, 1, 3.6 and 1.2 images.
_ANOTHER = {"children": 0.36, "adults": 0.0, "nih": 0.0, "covid": 0.15}

# Kermany et al.: 1,583 normal, 2,780 bacterial, 1,493 viral. Sait et al.: 3,270 normal, 3,001 bacterial, 1,656 viral,
# 1,281 COVID-19.
_CAUSES = {
    "children": (("normal", 1583), ("bacterial", 2780), ("viral", 1493)),
    "covid": (("normal", 3270), ("bacterial", 3001), ("viral", 1656), ("covid", 1281)),
}
# RSNA 2018: 8,851 Normal, 11,821 No Lung Opacity / Not Normal, 6,012 Lung Opacity.
_RSNA_NORMAL, _RSNA_OPACITY = 8851 / 26684, 6012 / 26684
# The site of a child depends on the cause (rows: cause; columns: cumulative fraction of sites 0, 1, 2).
_CHILD_SITE = {"normal": (0.60, 0.74, 0.78), "bacterial": (0.10, 0.38, 0.84), "viral": (0.32, 0.52, 0.66)}

# In ChestX-ray14, images labelled pneumonia are darker (mean grey 131, and 149 for No Finding): they come from wards with
# other machines. Therefore the scanner of an adult is a misleading sign for a model that is applied to children.
_ADULT_SITE = {"none": (0.14, 0.54, 0.88), "other": (0.25, 0.50, 0.80), "pneumonia": (0.42, 0.51, 0.62)}


def assign_patients(kind: str, seed: int, index: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Assign each image to a patient.

    kind: kind of population.
    seed: seed of the population.
    index: numbers of the images, integers (n,).

    Returns the number of the patient and the number of the visit (0 for the first image) of each image, arrays (n,).
    """
    index = np.asarray(index, dtype=np.int64)
    block = _BLOCK[kind]
    number, position = index // block, index % block
    blocks, inverse = np.unique(number, return_inverse=True)
    slots = blocks[:, None] * block + np.arange(block)
    draws = CounterRNG(seed, slots.ravel())
    another = draws.uniform("another image").numpy().reshape(slots.shape)
    probability = _ANOTHER[kind]
    # Most patients have one or a few images, some have very many: each has their own probability to return.
    if kind == "nih":
        return_rate = draws.uniform("devotion").numpy().reshape(slots.shape)
        starts = np.zeros(slots.shape, bool)
        rate = return_rate[:, 0].copy()
        starts[:, 0] = True
        for k in range(1, block):
            stays = another[:, k] < rate**1.45
            starts[:, k] = ~stays
            rate = np.where(stays, rate, return_rate[:, k])
    else:
        starts = another >= probability
        starts[:, 0] = True
    first = np.maximum.accumulate(np.where(starts, np.arange(block), 0), axis=1)
    return blocks[inverse] * block + first[inverse, position], position - first[inverse, position]


def _draw_category(table, uniform):
    """Draw names with the probabilities of a table of (name, weight), from uniform numbers in [0, 1)."""
    names, counts = zip(*table)
    index = np.searchsorted(np.cumsum(counts) / np.sum(counts), uniform, side="right")
    return np.array(names, dtype=object)[index.clip(max=len(names) - 1)]


def _findings(kind, patient, shot, cause):
    """Draw the findings of each image, as names joined by "|"."""

    def uniform(draws, name):
        return draws.uniform(name).numpy()

    if kind == "nih":
        unchanged = uniform(shot, "same findings as ever") < 0.4
        return draw_finding_sets(np.where(unchanged, uniform(patient, "lasting findings"), uniform(shot, "findings")))
    if kind == "adults":
        findings = np.full(len(uniform(shot, "class")), NO_FINDING, dtype=object)
        grade = uniform(shot, "class")
        opacity = grade >= 1 - _RSNA_OPACITY
        other_finding = (grade >= _RSNA_NORMAL) & ~opacity
        findings[opacity] = np.where(uniform(shot, "with effusion") < 0.2, "Effusion|Pneumonia", "Pneumonia")[opacity]
        findings[other_finding] = _draw_category(
            (("Cardiomegaly", 20), ("Nodule", 10), ("Emphysema", 12), ("Effusion", 10), ("Atelectasis", 14), ("Fibrosis", 9), ("Mass", 6),
             ("Pneumothorax", 6), ("Pleural_Thickening", 7), ("Hernia", 3), ("Atelectasis|Cardiomegaly", 4), ("Cardiomegaly|Effusion", 5)),
            uniform(shot, "other finding"),
        )[other_finding]  # fmt: skip
        return findings
    ill = cause != "normal"
    parapneumonic = (cause == "bacterial") & (uniform(shot, "with effusion") < 0.12)
    return np.where(parapneumonic, "Effusion|Pneumonia", np.where(ill, "Pneumonia", NO_FINDING)).astype(object)


def _causes(kind, patient, shot, findings=None):
    """Draw the cause of each image: normal, bacterial, viral, covid, or empty for other findings."""
    if kind in _CAUSES:
        return _draw_category(_CAUSES[kind], patient.uniform("cause").numpy())
    pneumonia = np.array(["Pneumonia" in f.split("|") for f in findings])
    cause = np.where(shot.uniform("cause").numpy() < 0.75, "bacterial", "viral").astype(object)
    cause[~pneumonia] = ""
    cause[findings == NO_FINDING] = "normal"
    return cause


def _ages(kind, patient, visit, cause):
    """Draw ages in years.

    Children are 1 to 5 years old, and the ill ones are younger on average. Adults are as old as in the NIH table (mean
    47, deviation 17).
    """
    uniform = patient.uniform("age").numpy()
    if kind == "children":
        exponent = np.where(cause == "normal", 0.8, np.where(cause == "viral", 1.05, 1.25))
        return (1 + 4 * uniform**exponent).round(1)
    deviation = patient.normal("age").numpy()
    return (np.clip(47 + 16.8 * deviation, 16, 94) + 0.4 * visit).round(0)


def _labels(kind, findings, label_noise, shot):
    """Return the labels that text mining would give: wrong findings in a fraction `label_noise` of the images."""
    label = findings.copy()
    wrong = (shot.uniform("label is wrong") < label_noise).numpy()
    if kind == "nih":
        other = draw_finding_sets(shot.uniform("wrong label").numpy())
        second = draw_finding_sets(shot.uniform("second wrong label").numpy())
        other = np.where(other == findings, second, other)
        swapped = np.where(findings == NO_FINDING, "Infiltration", NO_FINDING)
        other = np.where(other == findings, swapped, other)
    else:
        pneumonia = np.array(["Pneumonia" in f for f in findings])
        other = np.where(pneumonia, NO_FINDING, "Pneumonia")
    label[wrong] = other[wrong]
    return label


def make_patient_table(kind: str, seed: int, index: Iterable[int], label_noise: float = 0.0) -> pd.DataFrame:
    """Make the table of patients: one row per image, indexed by the number of the image.

    kind: kind of population.
    seed: seed of the population.
    index: numbers of the images, integers from 0 on.
    label_noise: fraction of images with a wrong label.

    Raises ValueError for a negative number of an image.
    """
    index = np.asarray(list(index), dtype=np.int64)
    if len(index) and index.min() < 0:
        raise ValueError("image indices start at 0")
    patient_number, visit = assign_patients(kind, seed, index)
    patient, shot = CounterRNG(seed, patient_number), CounterRNG(seed + 7919, index)
    cause = _causes(kind, patient, shot) if kind in _CAUSES else None
    findings = _findings(kind, patient, shot, cause)
    if cause is None:
        cause = _causes(kind, patient, shot, findings)
    ill = findings != NO_FINDING
    severity = np.where(
        ill, 0.12 + 0.88 * shot.uniform("severity").numpy() ** (0.9 if kind == "children" else 2.8), 0.0
    )
    # How ill the patient seems. A sicker patient breathes less deeply, has more devices and is more rotated.
    acuity = shot.uniform("acuity").numpy() * np.where(ill, 0.5, 0.42) + 0.3 * severity
    acuity = acuity + np.where(ill, 0.32 if kind == "children" else 0.05, 0.0) - np.where(cause == "viral", 0.12, 0.0)
    acuity = np.clip(acuity, 0, 1)
    view_draw = shot.uniform("view").numpy()
    if kind == "children":
        site = sum(
            (patient.uniform("site").numpy() >= np.array([_CHILD_SITE[c][k] for c in cause])).astype(int)
            for k in range(3)
        )
        view = np.where(view_draw < 0.25 + 0.75 * acuity + 0.3 * (site == 2), "AP", "PA")
    elif kind == "covid":
        # every site except the portable machine of the ward
        site = np.array([0, 1, 3])[(patient.uniform("site").numpy() * 3).astype(int)]
        view = np.full(len(index), "PA", dtype=object)
    else:
        group = np.where(["Pneumonia" in f.split("|") for f in findings], "pneumonia", np.where(ill, "other", "none"))
        site_draw = np.where(
            shot.uniform("same site as ever").numpy() < 0.6,
            patient.uniform("site").numpy(),
            shot.uniform("site").numpy(),
        )
        site = sum((site_draw >= np.array([_ADULT_SITE[g][k] for g in group])).astype(int) for k in range(3))
        view = np.where((site == 2) | (view_draw < 0.05 + 0.35 * acuity), "AP", "PA")
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
