"""Populations of phantom people, their table and their radiographs with every mask."""

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import torch

from pneumo_utils.phantom import anatomy, findings, imaging, organs
from pneumo_utils.phantom.counter_rng import Draws, pool
from pneumo_utils.phantom.imaging import site_settings
from pneumo_utils.phantom.measurements import measure, steady
from pneumo_utils.phantom.patients import FINDINGS, NO_FINDING, tabulate

KINDS = ("children", "adults", "nih", "covid")
SHORTCUTS = ("marker", "brightness", "size", "colour", "findings")  # the last three are for whoever writes the files
_CAUSE_NUMBER = {"bacterial": 1, "viral": 2, "covid": 3}
_PIXELS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 25}


class Shots(SimpleNamespace):
    """Radiographs: `image` uint8 (B, size, size), `masks` name -> bool (B, size, size), `boxes` of (row, finding, x,
    y, width, height).
    """


class Lungs(SimpleNamespace):
    """What fills the chest, as fields: depth of lung, share of tissue in it, branches, and fluid, solid and gas in
    cm.
    """

    def rows(self, chosen):
        """Select the given rows of every field."""
        return Lungs(**{k: v[chosen] for k, v in vars(self).items()})

    def put(self, chosen, part):
        """Replace the given rows of every field with those of `part`."""
        for k, v in vars(part).items():
            getattr(self, k)[chosen] = v


class Population:
    """A kind of people who come to be photographed; everything follows from (seed, index)."""

    def __init__(self, kind="children", seed=0, label_noise=0.0, shortcuts=()):
        if kind not in KINDS:
            raise ValueError(f"no population {kind!r}; there are {', '.join(KINDS)}")
        unknown = sorted(set(shortcuts) - set(SHORTCUTS))
        if unknown:
            raise ValueError(f"no shortcut {unknown[0]!r}; there are {', '.join(SHORTCUTS)}")
        if not 0 <= label_noise <= 1:
            raise ValueError(f"label_noise is a share from 0 to 1, not {label_noise}")
        self.kind, self.seed, self.label_noise, self.shortcuts = kind, int(seed), float(label_noise), tuple(shortcuts)

    def table(self, indices, force=None):
        """One row an image: patient, visit, age, sex, view, site, findings, label, cause, severity, acuity."""
        table = tabulate(self.kind, self.seed, indices, self.label_noise)
        return _forced(table, force) if force else table

    def render(self, indices, size=128, device="cpu", force=None, bones=True):
        """Radiographs of these images with their masks and boxes, the same whatever else is asked for beside them.

        With `bones=False` the skeleton lets the beam through, and all else is as it was: the window, the noise, and the
        mask of where bones would be.
        """
        table = self.table(indices, force)
        at_once = max(1, _PIXELS_AT_ONCE["cuda" if str(device).startswith("cuda") else "cpu"] // (size * size))
        parts = [self._expose(table.iloc[k : k + at_once], size, device, bones) for k in range(0, len(table), at_once)]
        names = ["lungs", "bones", "heart"] + [f for f in FINDINGS if any(f in masks for _, masks, _ in parts)]
        if not parts:
            empty = torch.zeros((0, size, size))
            return Shots(image=empty.to(torch.uint8), masks={n: empty.bool() for n in names}, boxes=[])
        image = torch.cat([image for image, _, _ in parts])
        masks = {
            name: torch.cat(
                [
                    masks.get(name, torch.zeros(image.shape, dtype=torch.bool, device=image.device))
                    for image, masks, _ in parts
                ]
            )
            for name in names
        }
        return Shots(image=image, masks=masks, boxes=_boxes(masks))

    def layers(self, index, size=512, device="cpu", force=None, bones=True):
        """The steps from thickness to picture for one image, as named float maps."""
        _, masks, steps = self._expose(self.table([index], force), size, device, bones)
        return OrderedDict((name, field[0].float()) for name, field in {**steps, **masks}.items() if field.ndim == 3)

    def _expose(self, table, size, device, bony):
        """Image, masks and steps of one batch."""
        has = {f: torch.tensor([f in joined.split("|") for joined in table["findings"]]).float() for f in FINDINGS}
        cause = torch.tensor([_CAUSE_NUMBER.get(c, 0) for c in table["cause"]])
        severity = torch.tensor(table["severity"].to_numpy(np.float32))
        measures = findings.alter(
            measure(self.kind, self.seed, table), {**has, "viral": (cause == 2).float()}, severity
        )
        site = {k: v.to(device)[:, None, None] for k, v in site_settings(self.kind, table["site"].to_numpy()).items()}
        key = Draws(self.seed + 104729, table.index).key
        scene = anatomy.lay_out(measures, key, size, device)
        scene.cause = cause.to(device)[:, None, None]

        body = anatomy.outline(scene)
        heart = anatomy.heart_chord(scene)
        great = anatomy.great_vessels(scene)
        chest = self._chest(scene, heart, great)
        healthy = pool(body - chest.chord * (1 - chest.share), 32).float()
        scene.heart_region = (heart > 0.12 * scene.D) & (scene.y < scene.floor) & (scene.t > 0.38)
        masks = {"lungs": scene.lung_region, "heart": scene.heart_region}
        for name, draw in findings.DRAWN.items():
            rows = has[name].nonzero().flatten().to(device)
            if len(rows):
                part = chest.rows(rows)
                masks[name] = torch.zeros_like(scene.lung_region)
                masks[name][rows] = draw(scene.rows(rows), part, severity.to(device)[rows][:, None, None])
                chest.put(rows, part)

        parts = (
            organs.ribs,
            organs.spine,
            organs.clavicles,
            organs.scapulae,
            organs.humeri,
            organs.skull,
            organs.sternum,
        )
        bone = scene.mineral * sum(part(scene) for part in parts) * (body > 0)
        masks["bones"] = bone > 0.18 * scene.mineral * scene.bone_scale
        crossed = bone if bony else torch.zeros_like(bone)  # by the beam; the machine goes on expecting a whole body
        air = chest.chord * (1 - chest.share).clamp(0, 1) - chest.branches - chest.solid
        air = (
            torch.minimum(air.clamp(min=0), 0.92 * body)
            + anatomy.airways(scene)
            + anatomy.abdomen_gas(scene)
            + chest.gas
        )
        tissue = (body * (1 + 0.025 * scene.coarse + 0.012 * scene.middle) - air - 0.6 * crossed + chest.fluid).clamp(
            min=0
        )
        metal = organs.metal(scene)
        fluid = chest.fluid + chest.solid + chest.chord * (chest.share - organs.PARENCHYMA).clamp(min=0)

        open_ = imaging.shutters(scene, size, site, device)
        direct = imaging.primary(tissue, crossed, metal, site)
        veil = imaging.scattered(direct, tissue, site["grid"])
        expected, level = imaging.expected_density(healthy, pool(bone, 32).float(), site)
        exposure = (direct + veil) / level
        across = 0.5 * (site["blur"] / scene.pixel) ** 2
        along = across + 0.5 * (scene.motion / scene.pixel) ** 2
        sharp = imaging.blur(exposure, (along.clamp(max=0.3), across.clamp(max=0.3)))
        counted, noise = imaging.detect(sharp, site["photons"] * scene.dose, scene.pixel, scene.key)
        density = -steady(torch.log, counted)
        shown = imaging.display(imaging.enhance(imaging.window(density, expected, scene, site), site), scene, site)
        ill = torch.tensor((table["findings"] != NO_FINDING).to_numpy(), device=device)[:, None, None]
        shown = shown * open_
        cover = imaging.letter(scene, size, site, device, ill if "marker" in self.shortcuts else None)
        shown = shown + (1 - shown) * cover
        if "brightness" in self.shortcuts:
            shown = shown * torch.where(ill, 0.96, 0.80)
        image = (shown * 255).round().clamp(0, 255).to(torch.uint8)
        steps = OrderedDict(
            soft_tissue=tissue,
            bone=crossed,
            air=air,
            fluid=fluid,
            primary=direct,
            scatter=veil,
            noise=noise,
            log=density,
            processed=shown,
        )
        return image, masks, steps

    @staticmethod
    def _chest(scene, heart, great):
        chord = organs.cavity(scene, heart, great)
        organs.polar(scene)
        share = (organs.PARENCHYMA + organs.texture(scene)) * torch.ones_like(chord)
        branches = 2.1 * organs.tree(scene, "arteries", 8, 0.042, 1.1) + 1.5 * organs.tree(
            scene, "veins", 11, 0.032, 1.0
        )
        branches = scene.vessels * (branches + organs.hila(scene)) * (chord > 0)
        zero = torch.zeros_like(chord)
        return Lungs(chord=chord, share=share, branches=branches, fluid=zero, solid=zero.clone(), gas=zero.clone())


def _forced(table, force):
    """The table with chosen columns set for every row."""
    unknown = sorted(set(force) - {"findings", "severity", "age", "site", "view", "sex", "cause", "acuity"})
    if unknown:
        raise ValueError(f"cannot force {unknown[0]!r}")
    if force.get("site", 0) not in range(4):
        raise ValueError(f"site is 0 to 3, not {force['site']}")
    table = table.copy()
    for name, value in force.items():
        if name != "findings":
            table[name] = value
    if "cause" in force and "findings" not in force:
        table["findings"] = table["label"] = NO_FINDING if force["cause"] == "normal" else "Pneumonia"
    if "findings" in force:
        wanted = [f for f in FINDINGS if f in force["findings"]]
        if len(wanted) != len(set(force["findings"]) - {NO_FINDING}):
            raise ValueError(f"findings are among {', '.join(FINDINGS)}, not {force['findings']}")
        table["findings"] = table["label"] = "|".join(wanted) or NO_FINDING
        if "severity" not in force:
            table["severity"] = np.float32(0.6 if wanted else 0.0)
        if "cause" not in force:
            table["cause"] = "" if wanted else "normal"
            if "Pneumonia" in wanted:
                table["cause"] = "bacterial"
    return table


def _boxes(masks):
    """The extent of every finding's mask, where any of it lies in the frame."""
    out = []
    for name, mask in masks.items():
        if name not in FINDINGS:
            continue
        extents = []
        for across in (1, 2):  # columns, then rows that hold any of it
            held = mask.any(across).to(torch.uint8)
            first = held.argmax(1)
            extents += [first, held.shape[1] - held.flip(1).argmax(1) - first]
        x, width, y, height = extents
        found = mask.flatten(1).any(1).nonzero().flatten()
        for row, *box in torch.stack([found, x[found], y[found], width[found], height[found]], 1).tolist():
            out.append((row, name, *box))
    return sorted(out, key=lambda box: (box[0], FINDINGS.index(box[1])))
