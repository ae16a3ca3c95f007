"""Labels that lie beside their curves, clear of the others: for direct labelling instead of a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scorer.evaluation.metrics import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP = 3  # pixels between a label and its surroundings
_CHARACTER, _LINE = 0.53, 1.2  # mean width and height, in font sizes
_REACHES = (4, 11, 20, 32, 46, 64, 86)  # pixels from curve to label
_LEADER = 13  # pixels from which on a line joins them
_ALONG = np.linspace(0, 1, 12)


@dataclass(frozen=True)
class Label:
    """text beside the points (k, 2) of its curve, in data coordinates."""

    text: str
    points: Floats
    colour: str
    size: float = 8
    bold: bool = False


def place(axes: Axes, labels: Sequence[Label]) -> None:
    """Writes each label where it and the line to its curve cover least of the curves and of earlier labels, and where
    its curve is well apart from others; first come, first served. The limits of the axes must be final."""
    frame = axes.get_window_extent()
    curves = [_dense(axes.transData.transform(label.points) - frame.p0) for label in labels]
    covered = np.zeros((int(frame.width) + 1, int(frame.height) + 1))
    for curve in curves:
        _cover(covered, curve)
    for number, (label, own) in enumerate(zip(labels, curves, strict=True)):
        box = label.size * axes.figure.dpi / 72 * np.array([_CHARACTER * (1.08 if label.bold else 1), _LINE])
        box[0] *= len(label.text)
        anchors, centres = _candidates(_inner(own, np.array(covered.shape)), box)
        cost = _covers(covered, centres, box) + _crosses(covered, anchors, centres, box)
        cost += np.hypot(*(centres - anchors).T) / 40
        if others := [curve for i, curve in enumerate(curves) if i != number]:
            cost += _doubt(anchors, np.concatenate(others))
        best = int(cost.argmin())
        low, high = ((centres[best] + side * (box / 2 + _GAP)).round().astype(int).clip(0) for side in (-1, 1))
        covered[low[0] : high[0], low[1] : high[1]] = 1
        _cover(covered, _dense(np.array([anchors[best], centres[best]])))
        _write(axes, label, anchors[best] + frame.p0, centres[best] + frame.p0, box)


def _dense(curve: Floats) -> Floats:
    """Points on a polyline a pixel apart."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
    along = np.linspace(0, length[-1], max(2, int(length[-1])))
    return np.stack([np.interp(along, length, column) for column in curve.T], axis=1)


def _cover(covered: Floats, curve: Floats) -> None:
    """Marks the pixels of a dense curve, as far as they are in the frame."""
    x, y = curve.round().astype(int).T
    inside = (x >= 0) & (x < covered.shape[0]) & (y >= 0) & (y < covered.shape[1])
    covered[x[inside], y[inside]] = 1


def _inner(curve: Floats, frame: Floats) -> Floats:
    """The part of a curve away from the frame, where curves meet and labels have no room; all, if there is none."""
    within = ((curve > 0.03 * frame) & (curve < 0.97 * frame)).all(axis=1)
    return curve[within] if within.any() else curve


def _candidates(curve: Floats, box: Floats) -> tuple[Floats, Floats]:
    """(c, 2) anchors on the curve, and the centre of a label around each."""
    anchors = curve[:: max(1, len(curve) // 80)]
    offsets = []
    for gap in _REACHES:
        for side in (-1, 1):
            offsets += [[0, side * (box[1] / 2 + gap)], [side * (box[0] / 2 + gap), 0]]
            offsets += [[way * (box[0] / 2 + gap / 2), side * (box[1] / 2 + gap / 2)] for way in (-1, 1)]
    centres = anchors[:, None] + np.array(offsets)[None]
    return np.repeat(anchors, len(offsets), axis=0), centres.reshape(-1, 2)


def _covers(covered: Floats, centres: Floats, box: Floats) -> Floats:
    """(c,) the covered pixels under each label, by an integral image; much for leaving the frame."""
    size = np.array(covered.shape)
    total = np.zeros(size + 1)
    total[1:, 1:] = covered.cumsum(0).cumsum(1)
    low, high = centres - box / 2 - _GAP, centres + box / 2 + _GAP
    outside = ((low < 0) | (high > size)).any(axis=1)
    (x0, y0), (x1, y1) = (corner.round().astype(int).clip(0, size).T for corner in (low, high))
    under: Floats = total[x1, y1] - total[x0, y1] - total[x1, y0] + total[x0, y0]
    return under + 1000 * outside


def _crosses(covered: Floats, anchors: Floats, centres: Floats, box: Floats) -> Floats:
    """(c,) how much of the way from each label to its curve is covered; its first steps are the curve's own."""
    ends = np.clip(anchors, centres - box / 2, centres + box / 2)
    way = anchors[:, None] + _ALONG[None, :, None] * (ends - anchors)[:, None]
    x, y = way.round().astype(int).clip(0, np.array(covered.shape) - 1).transpose(2, 0, 1)
    away = np.hypot(*(way - anchors[:, None]).transpose(2, 0, 1)) > 4
    crossed: Floats = 1.5 * (covered[x, y] * away).sum(axis=1)
    return crossed


def _doubt(anchors: Floats, others: Floats) -> Floats:
    """(c,) how easily a label at each anchor is taken for another curve's: the nearer that is, the more."""
    distinct, back = np.unique(anchors, axis=0, return_inverse=True)
    nearest = np.array([np.hypot(*(others - anchor).T).min() for anchor in distinct])
    doubt: Floats = 5 * np.maximum(0, 1 - nearest / 18)[back.ravel()]
    return doubt


def _write(axes: Axes, label: Label, anchor: Floats, centre: Floats, box: Floats) -> None:
    to_data = axes.transData.inverted().transform
    edge = np.clip(anchor, centre - box / 2, centre + box / 2)
    if np.hypot(*(edge - anchor)) > _LEADER:
        axes.plot(*np.array([to_data(edge), to_data(anchor)]).T, color=label.colour, linewidth=0.5, alpha=0.8, zorder=4)
    x, y = to_data(centre)
    weight = "bold" if label.bold else "normal"
    axes.text(x, y, label.text, color=label.colour, size=label.size, weight=weight, ha="center", va="center", zorder=6)
