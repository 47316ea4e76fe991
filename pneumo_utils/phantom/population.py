"""Populations of phantom patients: their table, and their radiographs with all masks."""

from collections import OrderedDict
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

from pneumo_utils.phantom import anatomy, findings, imaging, organs
from pneumo_utils.phantom.counter_rng import CounterRNG, cell_means
from pneumo_utils.phantom.imaging import site_settings
from pneumo_utils.phantom.measurements import batch_invariant, measure_bodies
from pneumo_utils.phantom.patients import FINDINGS, NO_FINDING, make_patient_table

POPULATION_KINDS = ("children", "adults", "nih", "covid")
SHORTCUTS = ("marker", "brightness", "size", "colour", "findings")  # the last three are used by the writers
_CAUSE_NUMBER = {"bacterial": 1, "viral": 2, "covid": 3}
_MAX_BATCH_PIXELS = {"cpu": 1 << 18, "cuda": 1 << 25}


class Radiographs(SimpleNamespace):
    """Radiographs with their ground truth.

    image: uint8 tensor (B, size, size).
    masks: name -> bool tensor (B, size, size).
    boxes: list of (row, finding, x, y, width, height) in pixels.
    """


class LungFields(SimpleNamespace):
    """The contents of the chest, as fields (B, size, size).

    chord: depth of lung in cm.
    share: fraction of tissue in the lung, from 0 to 1.
    branches, fluid, solid, gas: thickness in cm.
    """

    def rows(self, chosen: torch.Tensor) -> "LungFields":
        """Select some images of every field.

        chosen: indices of the images.
        """
        return LungFields(**{k: v[chosen] for k, v in vars(self).items()})

    def put(self, chosen: torch.Tensor, part: "LungFields") -> None:
        """Replace some images of every field.

        chosen: indices of the images.
        part: the new fields of these images.
        """
        for k, v in vars(part).items():
            getattr(self, k)[chosen] = v


class Population:
    """A population of phantom patients. Everything follows from the seed and the number of an image.

    kind: "children", "adults", "nih" (adults with the findings of ChestX-ray14) or "covid".
    seed: seed of all random numbers.
    label_noise: fraction of images with a wrong label, from 0 to 1.
    shortcuts: signs of the class that have nothing to do with the lungs, from `SHORTCUTS`.

    Raises ValueError for unknown kinds or shortcuts, and for a label noise outside of 0 to 1.
    """

    def __init__(self, kind: str = "children", seed: int = 0, label_noise: float = 0.0, shortcuts: Iterable[str] = ()):
        if kind not in POPULATION_KINDS:
            raise ValueError(f"no population {kind!r}; there are {', '.join(POPULATION_KINDS)}")
        unknown = sorted(set(shortcuts) - set(SHORTCUTS))
        if unknown:
            raise ValueError(f"no shortcut {unknown[0]!r}; there are {', '.join(SHORTCUTS)}")
        if not 0 <= label_noise <= 1:
            raise ValueError(f"label_noise is a share from 0 to 1, not {label_noise}")
        self.kind, self.seed, self.label_noise, self.shortcuts = kind, int(seed), float(label_noise), tuple(shortcuts)

    def table(self, indices: Iterable[int], force: dict[str, Any] | None = None) -> pd.DataFrame:
        """Make a table with one row per image.

        Its columns are patient, visit, age, sex, view, site, findings, label, cause, severity and acuity.

        indices: numbers of the images.
        force: column -> value for all rows, for example `{"findings": ["Nodule"], "severity": 0.8}`.

        Raises ValueError for columns or values that cannot be set.
        """
        table = make_patient_table(self.kind, self.seed, indices, self.label_noise)
        return _apply_forced_values(table, force) if force else table

    def render(
        self,
        indices: Iterable[int],
        size: int = 128,
        device: str = "cpu",
        force: dict[str, Any] | None = None,
        bones: bool = True,
    ) -> Radiographs:
        """Render radiographs with their masks and boxes.

        The image with a given number is the same whichever other images are rendered with it.

        indices: numbers of the images.
        size: pixels of a side.
        device: where to compute.
        force: column -> value for all rows, as in `table`.
        bones: False makes the skeleton transparent to the beam. The window, the noise and the mask of the bones stay
            the same.
        """
        table = self.table(indices, force)
        batch_size = max(1, _MAX_BATCH_PIXELS["cuda" if str(device).startswith("cuda") else "cpu"] // (size * size))
        batches = [
            self._expose(table.iloc[k : k + batch_size], size, device, bones) for k in range(0, len(table), batch_size)
        ]
        names = ["lungs", "bones", "heart"] + [f for f in FINDINGS if any(f in masks for _, masks, _ in batches)]
        if not batches:
            empty = torch.zeros((0, size, size))
            return Radiographs(image=empty.to(torch.uint8), masks={n: empty.bool() for n in names}, boxes=[])
        image = torch.cat([image for image, _, _ in batches])
        masks = {
            name: torch.cat(
                [
                    masks.get(name, torch.zeros(image.shape, dtype=torch.bool, device=image.device))
                    for image, masks, _ in batches
                ]
            )
            for name in names
        }
        return Radiographs(image=image, masks=masks, boxes=_boxes(masks))

    def layers(
        self, index: int, size: int = 512, device: str = "cpu", force: dict[str, Any] | None = None, bones: bool = True
    ) -> OrderedDict[str, torch.Tensor]:
        """Compute the steps from thickness to image for one image, as name -> float tensor (size, size).

        index: number of the image.
        size: pixels of a side.
        device: where to compute.
        force: column -> value, as in `table`.
        bones: False makes the skeleton transparent to the beam.
        """
        _, masks, steps = self._expose(self.table([index], force), size, device, bones)
        return OrderedDict((name, field[0].float()) for name, field in {**steps, **masks}.items() if field.ndim == 3)

    def _expose(self, table, size, device, bones):
        """Render one batch: its images, masks and intermediate steps."""
        has = {f: torch.tensor([f in joined.split("|") for joined in table["findings"]]).float() for f in FINDINGS}
        cause = torch.tensor([_CAUSE_NUMBER.get(c, 0) for c in table["cause"]])
        severity = torch.tensor(table["severity"].to_numpy(np.float32))
        measures = findings.alter_measurements(
            measure_bodies(self.seed, table), {**has, "viral": (cause == 2).float()}, severity
        )
        site = {k: v.to(device)[:, None, None] for k, v in site_settings(self.kind, table["site"].to_numpy()).items()}
        key = CounterRNG(self.seed + 104729, table.index).key
        scene = anatomy.build_scene(measures, key, size, device)
        scene.cause = cause.to(device)[:, None, None]

        body = anatomy.body_thickness(scene)
        heart = anatomy.heart_thickness(scene)
        vessels = anatomy.great_vessel_thickness(scene)
        chest = self._chest(scene, heart, vessels)
        healthy = cell_means(body - chest.chord * (1 - chest.share), 32).float()
        scene.heart_region = (heart > 0.12 * scene.D) & (scene.y < scene.floor) & (scene.t > 0.38)
        masks = {"lungs": scene.lung_region, "heart": scene.heart_region}
        for name, draw in findings.FINDING_FUNCTIONS.items():
            rows = has[name].nonzero().flatten().to(device)
            if len(rows):
                part = chest.rows(rows)
                masks[name] = torch.zeros_like(scene.lung_region)
                masks[name][rows] = draw(scene.rows(rows), part, severity.to(device)[rows][:, None, None])
                chest.put(rows, part)

        parts = (
            organs.rib_thickness,
            organs.spine_thickness,
            organs.clavicle_thickness,
            organs.scapula_thickness,
            organs.humerus_thickness,
            organs.skull_thickness,
            organs.sternum_thickness,
        )
        bone = scene.mineral * sum(part(scene) for part in parts) * (body > 0)
        masks["bones"] = bone > 0.18 * scene.mineral * scene.bone_scale
        crossed = bone if bones else torch.zeros_like(bone)  # by the beam; the machine still expects a body with bones
        air = chest.chord * (1 - chest.share).clamp(0, 1) - chest.branches - chest.solid
        air = (
            torch.minimum(air.clamp(min=0), 0.92 * body)
            + anatomy.airway_thickness(scene)
            + anatomy.abdominal_gas_thickness(scene)
            + chest.gas
        )
        tissue = (body * (1 + 0.025 * scene.coarse + 0.012 * scene.middle) - air - 0.6 * crossed + chest.fluid).clamp(
            min=0
        )
        metal = organs.device_thickness(scene)
        fluid = chest.fluid + chest.solid + chest.chord * (chest.share - organs.LUNG_TISSUE_FRACTION).clamp(min=0)

        transmission = imaging.collimator_transmission(scene, size, site, device)
        direct = imaging.primary_beam(tissue, crossed, metal, site)
        scatter = imaging.scattered_beam(direct, tissue, site["grid"])
        expected, level = imaging.expected_density(healthy, cell_means(bone, 32).float(), site)
        exposure = (direct + scatter) / level
        across = 0.5 * (site["blur"] / scene.pixel) ** 2
        along = across + 0.5 * (scene.motion / scene.pixel) ** 2
        sharp = imaging.smooth_3_point(exposure, (along.clamp(max=0.3), across.clamp(max=0.3)))
        detected, noise = imaging.add_detector_noise(sharp, site["photons"] * scene.dose, scene.pixel, scene.key)
        density = -batch_invariant(torch.log, detected)
        grey = imaging.apply_display_curve(
            imaging.enhance_contrast(imaging.apply_window(density, expected, scene, site), site), scene, site
        )
        ill = torch.tensor((table["findings"] != NO_FINDING).to_numpy(), device=device)[:, None, None]
        grey = grey * transmission
        marker = imaging.draw_side_marker(scene, size, site, device, ill if "marker" in self.shortcuts else None)
        grey = grey + (1 - grey) * marker
        if "brightness" in self.shortcuts:
            grey = grey * torch.where(ill, 0.96, 0.80)
        image = (grey * 255).round().clamp(0, 255).to(torch.uint8)
        steps = OrderedDict(
            soft_tissue=tissue,
            bone=crossed,
            air=air,
            fluid=fluid,
            primary=direct,
            scatter=scatter,
            noise=noise,
            log=density,
            processed=grey,
        )
        return image, masks, steps

    @staticmethod
    def _chest(scene, heart, vessels):
        """Fill the chest with healthy lungs."""
        chord = organs.lung_thickness(scene, heart, vessels)
        organs.set_hilum_coordinates(scene)
        share = (organs.LUNG_TISSUE_FRACTION + organs.lung_texture(scene)) * torch.ones_like(chord)
        branches = 2.1 * organs.branch_thickness(scene, "arteries", 8, 0.042, 1.1) + 1.5 * organs.branch_thickness(
            scene, "veins", 11, 0.032, 1.0
        )
        branches = scene.vessels * (branches + organs.hilum_thickness(scene)) * (chord > 0)
        zero = torch.zeros_like(chord)
        return LungFields(chord=chord, share=share, branches=branches, fluid=zero, solid=zero.clone(), gas=zero.clone())


def _apply_forced_values(table, force):
    """Set the given columns to the given values in every row of a copy of the table."""
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
        chosen = [f for f in FINDINGS if f in force["findings"]]
        if len(chosen) != len(set(force["findings"]) - {NO_FINDING}):
            raise ValueError(f"findings are among {', '.join(FINDINGS)}, not {force['findings']}")
        table["findings"] = table["label"] = "|".join(chosen) or NO_FINDING
        if "severity" not in force:
            table["severity"] = np.float32(0.6 if chosen else 0.0)
        if "cause" not in force:
            table["cause"] = "" if chosen else "normal"
            if "Pneumonia" in chosen:
                table["cause"] = "bacterial"
    return table


def _boxes(masks):
    """Compute the bounding box of every finding's mask that lies at least partly in the image."""
    boxes = []
    for name, mask in masks.items():
        if name not in FINDINGS:
            continue
        extents = []
        for across in (1, 2):  # columns, then rows that hold any of it
            occupied = mask.any(across).to(torch.uint8)
            first = occupied.argmax(1)
            extents += [first, occupied.shape[1] - occupied.flip(1).argmax(1) - first]
        x, width, y, height = extents
        present = mask.flatten(1).any(1).nonzero().flatten()
        for row, *box in torch.stack([present, x[present], y[present], width[present], height[present]], 1).tolist():
            boxes.append((row, name, *box))
    return sorted(boxes, key=lambda box: (box[0], FINDINGS.index(box[1])))
