"""Draws the sample data set: 600 small pictures of ten everyday things, a fifth of them labelled wrongly.

The classes come in five pairs that share their shape, their pose and the colours they are drawn from, and differ in
one part that settles the question: apple and pear, bear and cat, bucket and mug, fork and spoon, mushroom and
umbrella. Neither colour nor background says anything about the class. Most of the wrong labels confuse the two
classes of a pair, as people do; the rest name any other class. Two of the files are damaged on purpose, because real
folders have such files: one JPEG is cut off in the middle, one file is empty.

    python sample_data/draw.py

writes `images/`, `labels.csv` (what a labeller said) and `truth.csv` (what was drawn) next to this file. The same
versions of Pillow and numpy give the same bytes every time.
"""

from __future__ import annotations

import csv
import io
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Points = np.ndarray  # (n, 2): x to the right, y downwards; an object lies within -1..1
Grid = np.ndarray  # one value for each point of the canvas
Colour = tuple[int, int, int]
Rng = np.random.Generator

SEED = 7
SIDE = 64  # of the finished pictures, in pixels
ZOOM = 4  # everything is drawn this much larger and then reduced, for smooth edges
CANVAS = SIDE * ZOOM
PER_CLASS = 60
WRONG_SHARE = 0.20  # of the pictures of each class
LOOKALIKE_SHARE = 0.80  # of the wrong labels
PNG_EVERY = 40  # one picture in so many is a PNG
JPEG_QUALITY = 88

PALETTE: tuple[Colour, ...] = (  # of much the same brightness, so that the shape has to tell the classes apart
    (214, 70, 64), (232, 128, 54), (222, 168, 58), (112, 168, 76), (44, 144, 114), (62, 148, 192),
    (86, 106, 188), (146, 98, 178), (218, 112, 148), (158, 110, 78), (126, 132, 144),
)  # fmt: skip
LOOKALIKE = {
    "apple": "pear", "bear": "cat", "bucket": "mug", "fork": "spoon", "mushroom": "umbrella",
    "pear": "apple", "cat": "bear", "mug": "bucket", "spoon": "fork", "umbrella": "mushroom",
}  # fmt: skip
CLASSES = sorted(LOOKALIKE)


@dataclass
class Part:
    """One piece of an object: polygons (or lines, where `width` is given) of one colour, outlined together."""

    role: str  # which of the object's colours: main, second, dark, light or shade
    shapes: list[Points]
    width: float = 0.0
    edge: bool = True


@dataclass(frozen=True)
class Row:
    """One row of the tables."""

    path: str
    label: str
    true_label: str


# --- geometry -------------------------------------------------------------------------------------------------------


def oval(x: float, y: float, rx: float, ry: float, start: float = 0, stop: float = 360) -> Points:
    """Points along an ellipse, in degrees clockwise from three o'clock."""
    angle = np.radians(np.linspace(start, stop, 49))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def curve(points: list[tuple[float, float]]) -> Points:
    """A smooth closed curve through the points (Catmull-Rom)."""
    knots = np.array(points, dtype=float)
    before, after, beyond = np.roll(knots, 1, 0), np.roll(knots, -1, 0), np.roll(knots, -2, 0)
    pieces = []
    for t in np.linspace(0, 1, 9)[:-1]:
        straight = 2 * knots + (after - before) * t
        bend = (2 * before - 5 * knots + 4 * after - beyond) * t**2
        twist = (3 * knots - before - 3 * after + beyond) * t**3
        pieces.append((straight + bend + twist) / 2)
    return np.stack(pieces, axis=1).reshape(-1, 2)


def mirrored(half: list[tuple[float, float]]) -> Points:
    """A smooth closed outline, symmetric about the vertical, from its right half listed from top to bottom."""
    return curve(half + [(-x, y) for x, y in reversed(half) if x != 0])


def line(*points: tuple[float, float]) -> Points:
    """The points as an array."""
    return np.array(points, dtype=float)


# --- the ten classes ------------------------------------------------------------------------------------------------


def stalk_and_leaf(rng: Rng, top: float) -> list[Part]:
    """What apple and pear have in common: a stalk, and a leaf more often than not."""
    bend = rng.uniform(-0.12, 0.12)
    parts = [Part("dark", [line((0, top + 0.14), (bend / 2, top - 0.08), (bend, top - 0.24))], 0.09, edge=False)]
    if rng.random() < 0.7:
        side, lift = rng.choice([-1, 1]), rng.uniform(-0.2, 0.0)
        leaf = [(0.02, 0.0), (0.2, -0.18 + lift), (0.55, -0.12 + lift), (0.36, 0.06 + lift / 2)]
        parts.append(Part("second", [curve([(side * x, y + top - 0.04) for x, y in leaf])]))
    return parts


def apple(rng: Rng) -> list[Part]:
    """Broad shoulders and a dimple at the top."""
    wide, waist = rng.uniform(0.88, 0.96), rng.uniform(0.5, 0.64)
    body = [(0, -0.46), (0.36, -0.66), (wide * 0.9, -0.42), (wide, 0.06), (waist + 0.06, 0.72), (0.24, 0.9), (0, 0.82)]
    gleam = Part("light", [oval(-0.46, -0.2, 0.11, 0.2)], edge=False)
    return [Part("main", [mirrored(body)]), gleam, *stalk_and_leaf(rng, -0.6)]


def pear(rng: Rng) -> list[Part]:
    """A narrow neck that widens to a round base, and no dimple."""
    neck, wide = rng.uniform(0.22, 0.28), rng.uniform(0.6, 0.7)
    body = [(0, -0.68), (neck * 0.8, -0.6), (neck, -0.3), (wide * 0.82, 0.12), (wide, 0.5), (wide * 0.62, 0.86)]
    gleam = Part("light", [oval(-0.36, 0.3, 0.1, 0.2)], edge=False)
    return [Part("main", [mirrored([*body, (0, 0.94)])]), gleam, *stalk_and_leaf(rng, -0.66)]


def face(rng: Rng, below: list[Part]) -> list[Part]:
    """What bear and cat have in common: head, eyes, nose and mouth, the last two on top of the parts given."""
    apart, eye = rng.uniform(0.3, 0.4), rng.uniform(0.08, 0.11)
    eyes = [oval(side * apart, 0.02, eye, eye * 1.25) for side in (-1, 1)]
    glints = [oval(side * apart + 0.03, -0.03, 0.035, 0.035) for side in (-1, 1)]
    mouth = [oval(side * 0.1, 0.44, 0.1, 0.12, 10, 170) for side in (-1, 1)]
    return [
        Part("main", [oval(0, 0.2, rng.uniform(0.8, 0.9), rng.uniform(0.68, 0.74))]),
        *below,
        Part("dark", eyes, edge=False),
        Part("light", glints, edge=False),
        Part("dark", mouth, 0.05, edge=False),
        Part("dark", [oval(0, 0.32, 0.12, 0.08)], edge=False),
    ]


def bear(rng: Rng) -> list[Part]:
    """Round ears and a broad snout."""
    apart, size = rng.uniform(0.58, 0.66), rng.uniform(0.33, 0.38)
    outer = [oval(side * apart, -0.4, size, size) for side in (-1, 1)]
    inner = [oval(side * apart, -0.4, size * 0.55, size * 0.55) for side in (-1, 1)]
    snout = Part("light", [oval(0, 0.44, rng.uniform(0.4, 0.46), rng.uniform(0.28, 0.33))], edge=False)
    return [Part("main", outer), Part("second", inner, edge=False), *face(rng, [snout])]


def cat(rng: Rng) -> list[Part]:
    """Pointed ears and whiskers."""
    tip, height = rng.uniform(0.66, 0.78), rng.uniform(-0.98, -0.86)
    outer = [line((s * 0.84, 0.05), (s * tip, height), (s * 0.18, -0.4)) for s in (-1, 1)]
    inner = [line((s * 0.72, -0.2), (s * (tip - 0.04), height + 0.24), (s * 0.36, -0.4)) for s in (-1, 1)]
    droop = rng.uniform(-0.06, 0.1)
    hairs = [
        line((s * 0.42, y), (s * 0.98, y + tilt + droop)) for s in (-1, 1) for y, tilt in ((0.36, -0.08), (0.48, 0.06))
    ]
    return [Part("main", outer), Part("second", inner, edge=False), *face(rng, [Part("dark", hairs, 0.05, edge=False)])]


def vessel(rng: Rng, top: float, bottom: float, up: float) -> list[Part]:
    """What bucket and mug have in common: a tapering wall with a band or dots, and an open rim seen from above."""
    low, deep = 0.82, rng.uniform(0.13, 0.19)
    wall = np.concatenate([line((-top, up)), oval(0, low, bottom, deep, 180, 0), line((top, up))])
    parts = [Part("main", [wall])]
    style, middle = rng.integers(3), (up + low) / 2 + 0.14
    if style == 0:
        half = (top + bottom) / 2 * 0.98
        upper, lower = oval(0, middle - 0.12, half, deep, 180, 0), oval(0, middle + 0.12, half * 0.96, deep, 0, 180)
        parts.append(Part("second", [np.concatenate([upper, lower])], edge=False))
    elif style == 1:
        dots = [oval(x * bottom, middle + 0.1 - abs(x) * 0.1, 0.11, 0.11) for x in (-0.6, 0, 0.6)]
        parts.append(Part("second", dots, edge=False))
    rim = oval(0, up, top, deep)
    return [*parts, Part("light", [rim]), Part("shade", [oval(0, up + 0.02, top * 0.84, deep * 0.68)], edge=False)]


def bucket(rng: Rng) -> list[Part]:
    """A bail over the top, from rim to rim."""
    top, up = rng.uniform(0.7, 0.8), rng.uniform(-0.2, -0.1)
    bail = oval(0, up, top * 0.97, rng.uniform(0.66, 0.78), 180, 360)
    pegs = [oval(side * top * 0.97, up, 0.08, 0.08) for side in (-1, 1)]
    body = vessel(rng, top, top * rng.uniform(0.58, 0.7), up)
    return [Part("second", [bail], 0.12), *body, Part("second", pegs, edge=False)]


def mug(rng: Rng) -> list[Part]:
    """A handle at one side."""
    top, up = rng.uniform(0.54, 0.62), rng.uniform(-0.66, -0.54)
    bottom = top * rng.uniform(0.86, 0.98)
    handle = oval((top + bottom) / 2 - 0.04, 0.1, rng.uniform(0.38, 0.44), rng.uniform(0.38, 0.44), -100, 100)
    body = vessel(rng, top, bottom, up)
    parts = [Part("main", [handle], 0.16), *body]
    for part in parts:
        part.shapes = [shape - (0.16, 0.08) for shape in part.shapes]
    return parts


def handle_of_cutlery(rng: Rng) -> Points:
    """What fork and spoon have in common: a handle that widens towards its end."""
    end, neck = rng.uniform(0.15, 0.2), rng.uniform(0.07, 0.09)
    return mirrored([(0, -0.3), (neck, -0.24), (neck + 0.01, 0.1), (end, 0.66), (end * 0.9, 0.9), (0, 0.98)])


def fork(rng: Rng) -> list[Part]:
    """Three tines."""
    half, thick, base = rng.uniform(0.46, 0.51), rng.uniform(0.065, 0.08), rng.uniform(-0.4, -0.3)
    palm = np.concatenate([line((-half, base)), oval(0, base, half, 0.26, 180, 0), line((half, base))])
    tips = rng.uniform(-1.0, -0.94)
    tines = []
    for x in np.linspace(-half + thick, half - thick, 3):
        tines.append(line((x - thick, base), (x - thick * 0.8, tips), (x + thick * 0.8, tips), (x + thick, base)))
    return [Part("main", [handle_of_cutlery(rng), palm, *tines]), pattern_of_cutlery(rng)]


def spoon(rng: Rng) -> list[Part]:
    """An oval bowl."""
    wide, tall = rng.uniform(0.42, 0.48), rng.uniform(0.43, 0.46)
    bowl = oval(0, -0.54, wide, tall)
    hollow = Part("shade", [oval(0.02, -0.55, wide * 0.7, tall * 0.74)], edge=False)
    return [Part("main", [handle_of_cutlery(rng), bowl]), hollow, pattern_of_cutlery(rng)]


def pattern_of_cutlery(rng: Rng) -> Part:
    """Decoration at the end of the handle: a dot, or an inlay."""
    if rng.random() < 0.5:
        return Part("second", [oval(0, 0.78, 0.08, 0.08)], edge=False)
    return Part("second", [oval(0, 0.6, 0.06, 0.28)], edge=False)


def dome_pattern(rng: Rng, top: float, low: float) -> Part:
    """What cap and canopy have in common: spots, or ribs that fan out from the top."""
    if rng.random() < 0.5:
        size, middle = rng.uniform(0.09, 0.13), (top + low) / 2
        places = [(-0.52, 0.14), (-0.2, -0.14), (0.14, 0.1), (0.5, 0.12), (0.2, -0.24)]
        return Part("second", [oval(x, middle + y, size, size * 0.9) for x, y in places], edge=False)
    ribs = [oval(0, low, x, low - top, 270, 360 if x > 0 else 355) for x in (-0.32, 0.32)]
    return Part("shade", [rib[:-4] for rib in ribs], 0.05, edge=False)


def mushroom(rng: Rng) -> list[Part]:
    """A smooth cap on a thick stem."""
    low, wide, stem = rng.uniform(0.0, 0.12), rng.uniform(0.82, 0.94), rng.uniform(0.28, 0.38)
    cap = np.concatenate([oval(0, low, wide, 0.86 + low, 180, 360), oval(0, low, wide, rng.uniform(0.1, 0.18), 0, 180)])
    foot = mirrored([(0, low), (stem, low + 0.05), (stem * 0.92, 0.5), (stem * 1.25, 0.84), (0, 0.94)])
    return [Part("light", [foot]), Part("main", [cap]), dome_pattern(rng, -0.86, low)]


def umbrella(rng: Rng) -> list[Part]:
    """A scalloped canopy on a thin pole that ends in a hook."""
    low, wide, count = rng.uniform(-0.06, 0.06), rng.uniform(0.86, 0.96), int(rng.integers(3, 5))
    step = 2 * wide / count
    scallops = [oval(wide - step * (k + 0.5), low, step / 2, -0.2, 0, 180) for k in range(count)]
    canopy = np.concatenate([oval(0, low, wide, 0.8 + low, 180, 360), *scallops])
    side = rng.choice([-1, 1])
    hook = oval(side * 0.15, 0.78, side * -0.15, 0.17, 0, 180)
    pole = np.concatenate([line((0, -0.7), (0, 0.74)), hook])
    spike = Part("dark", [line((0, -0.76), (0, -0.97))], 0.08, edge=False)
    return [Part("dark", [pole], 0.1, edge=False), spike, Part("main", [canopy]), dome_pattern(rng, -0.78, low)]


DRAWERS: dict[str, Callable[[Rng], list[Part]]] = {
    "apple": apple, "bear": bear, "bucket": bucket, "cat": cat, "fork": fork,
    "mug": mug, "mushroom": mushroom, "pear": pear, "spoon": spoon, "umbrella": umbrella,
}  # fmt: skip


# --- colours and backgrounds ----------------------------------------------------------------------------------------


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The first colour with a share of the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def distance(first: Colour, second: Colour) -> float:
    """How far two colours lie apart, roughly as the eye sees it."""
    weights = np.array([0.55, 0.75, 0.4])
    return float(np.linalg.norm((np.array(first) - np.array(second)) * weights))


def pick(rng: Rng, avoid: list[Colour], apart: float, pale: tuple[float, float] = (0.0, 0.1)) -> Colour:
    """A colour of the palette, paled by a random amount, that stands out against the colours to avoid."""
    while True:
        colour = mix(PALETTE[rng.integers(len(PALETTE))], (255, 255, 255), rng.uniform(*pale))
        if all(distance(colour, other) >= apart for other in avoid):
            return colour
        apart *= 0.97


def colours_of_object(rng: Rng) -> dict[str, Colour]:
    """The five colours of an object, from the same palette for every class."""
    main = pick(rng, [], 0)
    second = pick(rng, [main], 60)
    dark = mix(main, (25, 20, 30), rng.uniform(0.8, 0.95))
    shade = mix(main, (25, 20, 30), rng.uniform(0.35, 0.5))
    light = mix(main, (255, 252, 245), rng.uniform(0.6, 0.85))
    return {"main": main, "second": second, "dark": dark, "light": light, "shade": shade}


def pattern_mask(rng: Rng) -> Grid:
    """How much of the second background colour each point takes: plain, gradient, stripes, checks, dots, texture."""
    kind = int(rng.integers(6))
    grid = np.linspace(-1, 1, CANVAS)
    angle = rng.uniform(0, math.pi)
    along = np.cos(angle) * grid[None, :] + np.sin(angle) * grid[:, None]
    across = -np.sin(angle) * grid[None, :] + np.cos(angle) * grid[:, None]
    period = rng.uniform(8, 20)
    waves = np.sin(along * period) * np.sin(across * period)
    drawn: dict[int, Grid] = {
        0: np.zeros((CANVAS, CANVAS)),
        1: (along + 1.4) / 2.8,
        2: np.sin(along * period) > 0,
        3: waves > 0,
        4: waves > 0.55,
    }
    if kind in drawn:
        return drawn[kind].astype(float)
    cells = int(rng.integers(5, 20))
    noise = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    return np.asarray(noise.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC), dtype=float) / 255


def background(rng: Rng, colours: dict[str, Colour]) -> Image.Image:
    """A background that the object's own colours stand out against."""
    ground = pick(rng, [colours["main"], colours["second"]], 60, (0.72, 0.9))
    other = mix(ground, pick(rng, [colours["main"]], 60, (0.5, 0.9)), rng.uniform(0.3, 0.6))
    mask = pattern_mask(rng)[:, :, None]
    return Image.fromarray(np.round(np.array(ground) * (1 - mask) + np.array(other) * mask).astype(np.uint8))


def add_clutter(rng: Rng, image: Image.Image, colours: dict[str, Colour]) -> None:
    """Up to four small plain shapes, anywhere."""
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 5))):
        x, y = rng.uniform(0, CANVAS, 2)
        size, turn = rng.uniform(0.03, 0.07) * CANVAS, rng.uniform(0, 360)
        colour = pick(rng, [colours["main"]], 40, (0.2, 0.5))
        corners = int(rng.integers(3, 7))
        if corners == 6:
            pen.ellipse((x - size, y - size, x + size, y + size), fill=colour)
        else:
            pen.regular_polygon((x, y, size), corners, rotation=turn, fill=colour)


# --- a picture ------------------------------------------------------------------------------------------------------


def place(rng: Rng) -> Callable[[Points], Points]:
    """A random pose: mirrored or not, turned, scaled, stretched a little, and moved without leaving the picture."""
    size = rng.uniform(0.68, 0.84) * CANVAS / 2
    stretch = rng.uniform(0.92, 1.08)
    flip = rng.choice([-1, 1])
    turn = math.radians(rng.uniform(-12, 12))
    room = CANVAS / 2 - size * 1.03
    middle = CANVAS / 2 + rng.uniform(-room, room, 2)
    spin = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = size * spin @ np.diag([flip * stretch, 1 / stretch])
    return lambda points: points @ matrix.T + middle


def stroke(pen: ImageDraw.ImageDraw, points: Points, width: float, colour: Colour, closed: bool) -> None:
    """A line with round corners and round ends."""
    path, thick = [(float(x), float(y)) for x, y in points], max(2, round(width))
    if closed:
        path = [*path, path[0], path[1]]
    pen.line(path, fill=colour, width=thick, joint="curve")
    reach = thick / 2 - 0.75
    for x, y in path:
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)


def draw_parts(
    parts: list[Part], pose: Callable[[Points], Points], colours: dict[str, Colour], edge: float
) -> Image.Image:
    """The object alone, on a transparent layer."""
    layer = Image.new("RGBA", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(layer)
    origin = pose(np.array([[0.0, 0.0], [0.0, 1.0]]))
    unit = float(np.linalg.norm(origin[1] - origin[0]))
    for part in parts:
        shapes, width = [pose(shape) for shape in part.shapes], part.width * unit
        if part.edge and edge > 0:
            for shape in shapes:
                stroke(pen, shape, width + 2 * edge, colours["dark"], closed=not width)
        for shape in shapes:
            if width:
                stroke(pen, shape, width, colours[part.role], closed=False)
            else:
                pen.polygon([(float(x), float(y)) for x, y in shape], fill=colours[part.role])
    return layer


def light_falloff(rng: Rng, strength: float) -> Grid:
    """A brightness factor per point, falling off away from a light somewhere above."""
    angle = math.radians(rng.uniform(200, 340))
    grid = np.linspace(-1, 1, CANVAS)
    toward = math.cos(angle) * grid[None, :] + math.sin(angle) * grid[:, None]
    return (1 + strength * toward)[:, :, None]


def lit(rng: Rng, image: Image.Image, strength: float) -> Image.Image:
    """The image with light from one side; transparency is kept."""
    pixels = np.asarray(image, dtype=float).copy()
    pixels[:, :, :3] *= light_falloff(rng, strength)
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def add_shadow(rng: Rng, scene: Image.Image, layer: Image.Image) -> None:
    """The soft shadow of the object on the background."""
    shift = (round(rng.uniform(-10, 10)), round(rng.uniform(4, 14)))
    strength = rng.uniform(0.15, 0.35)
    shape = Image.new("L", scene.size)
    shape.paste(layer.getchannel("A"), shift)
    shape = shape.filter(ImageFilter.GaussianBlur(rng.uniform(4, 9))).point(lambda value: round(value * strength))
    scene.paste((15, 12, 25), (0, 0), shape)


def picture(rng: Rng, name: str) -> Image.Image:
    """One finished picture of a class."""
    colours = colours_of_object(rng)
    scene = background(rng, colours)
    add_clutter(rng, scene, colours)
    edge = rng.uniform(5, 8)
    layer = draw_parts(DRAWERS[name](rng), place(rng), colours, edge)
    add_shadow(rng, scene, layer)
    scene.paste(lit(rng, layer, rng.uniform(0.1, 0.25)), (0, 0), layer)
    scene = lit(rng, scene, rng.uniform(0, 0.12)).reduce(ZOOM)
    if rng.random() < 0.3:
        scene = scene.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.7)))
    pixels = np.asarray(scene, dtype=float)
    pixels = (pixels - 128) * rng.uniform(0.88, 1.08) + 128 + rng.uniform(-12, 12)
    pixels += rng.normal(0, rng.uniform(0, 5), pixels.shape)
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


# --- the data set ---------------------------------------------------------------------------------------------------


def labels_of_class(rng: Rng, true: str) -> list[str]:
    """The labels of one class's pictures, in random order: right ones, the look-alike's, and any other class's."""
    wrong = round(WRONG_SHARE * PER_CLASS)
    confused = round(LOOKALIKE_SHARE * wrong)
    others = [name for name in CLASSES if name not in (true, LOOKALIKE[true])]
    labels = [true] * (PER_CLASS - wrong) + [LOOKALIKE[true]] * confused
    labels += [str(name) for name in rng.choice(others, wrong - confused, replace=False)]
    return [str(label) for label in rng.permutation(labels)]


def plan(rng: Rng) -> tuple[list[Row], list[Row]]:
    """All rows, in the order of their file names, and the two among them whose files are to be damaged."""
    pairs = [(label, true) for true in CLASSES for label in labels_of_class(rng, true)]
    rows = []
    for index, source in enumerate(rng.permutation(len(pairs))):
        ending = "png" if index % PNG_EVERY == PNG_EVERY - 1 else "jpg"
        rows.append(Row(f"{index + 1:04d}.{ending}", *pairs[source]))
    sound = [row for row in rows if row.label == row.true_label and row.path.endswith(".jpg")]
    damaged = [sound[index] for index in rng.choice(len(sound), 2, replace=False)]
    return rows, damaged


def encode(image: Image.Image, ending: str) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    if ending == ".png":
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def write_table(path: Path, rows: list[Row], columns: tuple[str, ...]) -> None:
    """A CSV table of the columns named."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([getattr(row, column) for column in columns] for row in rows)


def main(folder: Path) -> None:
    """Draws everything into the folder, replacing what an earlier run left there."""
    rng = np.random.default_rng(SEED)
    rows, (cut, empty) = plan(rng)
    shutil.rmtree(folder / "images", ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    for index, row in enumerate(rows):
        data = encode(picture(np.random.default_rng([SEED, index]), row.true_label), Path(row.path).suffix)
        if row is cut:
            data = data[: len(data) * 6 // 10]
        if row is empty:
            data = b""
        (folder / "images" / row.path).write_bytes(data)
    rows = [rows[index] for index in rng.permutation(len(rows))]
    write_table(folder / "labels.csv", rows, ("path", "label"))
    write_table(folder / "truth.csv", rows, ("path", "label", "true_label"))


if __name__ == "__main__":
    main(Path(__file__).resolve().parent)
