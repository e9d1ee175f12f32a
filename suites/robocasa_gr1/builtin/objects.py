"""The movable objects as lists of primitive geoms: what is picked up, what grows or stands around it.

All sizes are made up for the category: nothing here is measured on, or derived from, an asset of the benchmark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

Vector = tuple[float, ...]
Colour = tuple[float, float, float]

#: Size factors and colour factors (r, g, b) of a category's four instances.
SIZE_FACTORS = (1.0, 0.95, 1.05, 0.98)
TINTS = ((1.0, 1.0, 1.0), (0.9, 0.9, 0.84), (1.08, 1.0, 0.9), (0.94, 1.04, 1.0))

#: Density (kg/m^3) of what is not a tiered container, and of those (upstream's object configuration).
DENSITY, TIERED_DENSITY = 100.0, 5000.0


@dataclass(frozen=True)
class Part:
    """One geom. shape: MJCF type; size: MJCF half sizes (m); pos, quat: in the body's frame.

    solid: collides and weighs; visible: is drawn. material: one of room.MATERIALS; rgb None: the material's colour.
    """

    shape: str
    size: Vector
    pos: Vector = (0.0, 0.0, 0.0)
    quat: Vector = (1.0, 0.0, 0.0, 0.0)
    rgb: Colour | None = None
    material: str = "matte"
    solid: bool = True
    visible: bool = True

    def scaled(self, factor: float, tint: Colour = TINTS[0]) -> Part:
        """The same geom, `factor` times as large, its colour multiplied by `tint`."""
        rgb = None if self.rgb is None else tuple(min(1.0, a * b) for a, b in zip(self.rgb, tint))
        size, pos = (tuple(factor * value for value in values) for values in (self.size, self.pos))
        return replace(self, size=size, pos=pos, rgb=rgb)


@dataclass(frozen=True)
class Thing:
    """A movable thing. half: half extents (x, y, z) of its bounding box, whose centre is the body's origin (m).

    region: bounds the highest tier of tiered things; handle: how far a handle sticks out beyond +half[0] (m).
    stiff: whether its contacts are upstream's stiff ones (all but cup and tiered things).
    """

    parts: tuple[Part, ...]
    half: Vector
    region: Part | None = None
    handle: float = 0.0
    density: float = DENSITY
    stiff: bool = True

    def scaled(self, factor: float, tint: Colour = TINTS[0]) -> Thing:
        """The same thing, `factor` times as large in all directions."""
        return replace(
            self, parts=tuple(part.scaled(factor, tint) for part in self.parts),
            half=tuple(factor * v for v in self.half), region=self.region and self.region.scaled(factor),
            handle=factor * self.handle,
        )


def turned(axis: str, angle: float) -> Vector:
    """Quaternion (w, x, y, z) of a rotation by `angle` (rad) about the named axis."""
    vector = [0.0, 0.0, 0.0]
    vector["xyz".index(axis)] = math.sin(angle / 2)
    return (math.cos(angle / 2), *vector)


def turned_twice(yaw: float, pitch: float) -> Vector:
    """Quaternion of a rotation by `pitch` about y, then by `yaw` about z (rad)."""
    a, b, c, d = math.cos(yaw / 2), math.sin(yaw / 2), math.cos(pitch / 2), math.sin(pitch / 2)
    return (a * c, -b * d, a * d, b * c)


def decor(shape: str, size: Vector, pos: Vector, rgb: Colour, material: str = "matte",
          quat: Vector = (1.0, 0.0, 0.0, 0.0)) -> Part:
    """A geom that is only looked at."""
    return Part(shape, size, pos, quat, rgb, material, solid=False)


def hidden(shape: str, size: Vector, pos: Vector = (0.0, 0.0, 0.0)) -> Part:
    """A geom that is only collided with."""
    return Part(shape, size, pos, visible=False)


def round_thing(size: Vector, rgb: Colour, *looks: Part, material: str = "matte") -> Thing:
    """An ellipsoid with a box inside that keeps it from rolling off (factors: see the module's sizes)."""
    x, y, z = size
    body = Part("ellipsoid", size, rgb=rgb, material=material)
    return Thing((body, hidden("box", (0.55 * x, 0.55 * y, 0.97 * z)), *looks), size)


def stem(pos: Vector, rgb: Colour, length: float = 0.008, quat: Vector = (1.0, 0.0, 0.0, 0.0)) -> Part:
    """A short stalk."""
    return decor("capsule", (0.0035, length), pos, rgb, quat=quat)


def stripes(size: Vector, places: Vector, rgb: Colour) -> tuple[Part, ...]:
    """Bands around an ellipsoid, at fractions of its half length along x."""
    x, y, z = size
    bands = [(place * x, 1.03 * math.sqrt(1 - place**2)) for place in places]
    return tuple(decor("ellipsoid", (0.09 * x, swell * y, swell * z), (at, 0, 0), rgb) for at, swell in bands)


def caps(size: Vector, rgb: Colour, share: float = 0.22) -> tuple[Part, ...]:
    """Pointed ends of an ellipsoid along x."""
    x, y, z = size
    return tuple(decor("ellipsoid", (share * x, 0.42 * y, 0.42 * z), (side * 0.88 * x, 0, 0), rgb) for side in (-1, 1))


def cylinder_thing(radius: float, half: float, rgb: Colour, *looks: Part, visible: bool = True) -> Thing:
    """An upright cylinder."""
    body = Part("cylinder", (radius, half), rgb=rgb, material="glossy", visible=visible)
    return Thing((body, *looks), (radius, radius, half))


def bottle(radius: float, half: float, rgb: Colour, cap: Colour, label: Colour) -> Thing:
    """A wide cylinder up to 0.35 of the half height above the middle, a neck of 0.38 of the radius above."""
    shoulder = 0.35 * half
    body = Part("cylinder", (radius, (half + shoulder) / 2), (0, 0, (shoulder - half) / 2), rgb=rgb, material="glossy")
    neck = Part("cylinder", (0.38 * radius, (half - shoulder) / 2), (0, 0, (half + shoulder) / 2), rgb=rgb,
                material="glossy")
    return Thing((
        body, neck,
        decor("ellipsoid", (radius, radius, 0.2 * half), (0, 0, shoulder), rgb, "glossy"),
        decor("cylinder", (0.44 * radius, 0.07 * half), (0, 0, 0.935 * half), cap),
        decor("cylinder", (1.01 * radius, 0.28 * half), (0, 0, -0.3 * half), label),
    ), (radius, radius, half))


def carton(size: Vector, rgb: Colour, band: Colour, front: Colour) -> Thing:
    """A box with a band around it and a label in front and behind."""
    x, y, z = size
    return Thing((
        Part("box", size, rgb=rgb),
        decor("box", (1.01 * x, 1.01 * y, 0.13 * z), (0, 0, 0.55 * z), band),
        decor("ellipsoid", (0.6 * x, 0.04 * y, 0.35 * z), (0, -y, -0.2 * z), front),
        decor("ellipsoid", (0.6 * x, 0.04 * y, 0.35 * z), (0, y, -0.2 * z), front),
    ), size)


def dish(radius: float, half: float, wall: float, rgb: Colour, base: float, rim: Colour | None = None,
         segments: int = 16, handle: float = 0.0, material: str = "glossy") -> Thing:
    """A thin-walled vessel: a disc of `base` times the radius and a ring of boxes that lean outwards.

    It stands on a box in the disc: discs slide by themselves (seen: a pan, off the table in 3 s), because MuJoCo finds
    too few points where a cylinder lies on a box.
    wall: thickness of the ring and half thickness of the disc; handle: length of a bar along +x.
    """
    low, start, end = base * radius, wall - half, half - wall / 2  # the ring ends above the table
    lean = math.atan2(radius - low, end - start)
    height = math.hypot(radius - low, end - start) / 2
    middle, width = (radius + low) / 2 - wall / 2, 1.02 * radius * math.tan(math.pi / segments)
    lift = 0.0005
    parts = [
        Part("cylinder", (low, wall - lift), (0, 0, wall - half + lift), rgb=rgb, material=material),
        hidden("box", (0.7 * low, 0.7 * low, wall - lift), (0, 0, wall - half - lift)),
    ]
    for index in range(segments):
        yaw = 2 * math.pi * index / segments
        pos = (middle * math.cos(yaw), middle * math.sin(yaw), (start + end) / 2)
        parts.append(Part("box", (wall / 2, width, height), pos, turned_twice(yaw, lean), rgb, material))
    if handle:
        bar = Part("box", (handle / 2, 0.012, 0.007), (radius + handle / 2, 0, half / 2), rgb=rim or rgb)
        parts.append(bar)
    return Thing(tuple(parts), (radius, radius, half), handle=handle)


GREEN, DARK_GREEN, BROWN = (0.25, 0.5, 0.18), (0.16, 0.36, 0.13), (0.36, 0.24, 0.13)
SILVER, WHITE = (0.78, 0.78, 0.8), (0.95, 0.95, 0.93)


def bell_pepper() -> Thing:
    size = (0.037, 0.037, 0.045)
    lobes = [decor("ellipsoid", (0.021, 0.021, 0.041), (0.017 * math.cos(a), 0.017 * math.sin(a), 0), (0.8, 0.12, 0.1),
                   "glossy") for a in (0.8, 2.4, 3.9, 5.5)]
    return round_thing(size, (0.78, 0.11, 0.09), *lobes, stem((0, 0, 0.046), GREEN), material="glossy")


def croissant() -> Thing:
    size, crust = (0.07, 0.035, 0.027), (0.62, 0.36, 0.14)
    return round_thing(size, (0.82, 0.56, 0.26), *stripes(size, (-0.75, -0.45, -0.15, 0.15, 0.45, 0.75), crust))


def cupcake() -> Thing:
    cup = decor("cylinder", (0.029, 0.018), (0, 0, -0.015), (0.45, 0.26, 0.16))
    icing = decor("ellipsoid", (0.034, 0.034, 0.02), (0, 0, 0.008), (0.95, 0.66, 0.72))
    top = decor("ellipsoid", (0.02, 0.02, 0.013), (0, 0, 0.02), (0.97, 0.75, 0.79))
    cherry = decor("sphere", (0.006,), (0, 0, 0.031), (0.75, 0.05, 0.08), "glossy")
    return cylinder_thing(0.034, 0.033, (0.9, 0.6, 0.65), cup, icing, top, cherry, visible=False)


def can() -> Thing:
    ends = [decor("cylinder", (0.0325, 0.003), (0, 0, side * 0.0555), SILVER, "metal") for side in (-1, 1)]
    label = decor("cylinder", (0.0333, 0.014), (0, 0, 0.005), WHITE)
    return cylinder_thing(0.033, 0.058, (0.78, 0.08, 0.1), *ends, label)


def pear() -> Thing:
    neck = decor("ellipsoid", (0.021, 0.021, 0.024), (0, 0, 0.028), (0.7, 0.75, 0.25))
    return round_thing((0.035, 0.035, 0.048), (0.7, 0.75, 0.25), neck, stem((0, 0, 0.052), BROWN, 0.006))


def tomato() -> Thing:
    leaves = [decor("ellipsoid", (0.013, 0.004, 0.002), (0.01 * math.cos(a), 0.01 * math.sin(a), 0.0295), DARK_GREEN,
                    quat=turned("z", a)) for a in (0.0, 1.26, 2.51, 3.77, 5.03)]
    return round_thing((0.036, 0.036, 0.031), (0.82, 0.13, 0.09), *leaves, stem((0, 0, 0.031), GREEN, 0.003),
                       material="glossy")


def eggplant() -> Thing:
    size = (0.09, 0.034, 0.034)
    cap = decor("ellipsoid", (0.016, 0.021, 0.021), (-0.078, 0, 0), GREEN)
    return round_thing(size, (0.27, 0.1, 0.32), cap, stem((-0.092, 0, 0), GREEN, 0.006, turned("y", math.pi / 2)),
                       material="glossy")


def squash() -> Thing:
    neck = decor("ellipsoid", (0.03, 0.024, 0.024), (0.06, 0, 0), (0.8, 0.6, 0.15))
    stalk = stem((0.087, 0, 0), GREEN, 0.006, turned("y", math.pi / 2))
    return round_thing((0.085, 0.034, 0.034), (0.85, 0.66, 0.16), neck, stalk)


def sweet_potato() -> Thing:
    size = (0.075, 0.032, 0.032)
    return round_thing(size, (0.66, 0.33, 0.22), *caps(size, (0.58, 0.28, 0.2)))


def lemon() -> Thing:
    size = (0.04, 0.029, 0.029)
    return round_thing(size, (0.95, 0.83, 0.16), *caps(size, (0.9, 0.78, 0.14)))


def potato() -> Thing:
    size = (0.05, 0.033, 0.03)
    eyes = [decor("sphere", (0.003,), pos, (0.5, 0.36, 0.2)) for pos in
            ((0.015, -0.02, 0.022), (-0.02, 0.012, 0.024), (0.03, 0.01, 0.021), (-0.01, -0.03, 0.008))]
    return round_thing(size, (0.72, 0.57, 0.36), *eyes)


def broccoli() -> Thing:
    heads = [decor("sphere", (0.022,), (0.026 * math.cos(a), 0.026 * math.sin(a), 0.018), (0.17, 0.45, 0.15))
             for a in (0.3, 1.5, 2.8, 4.0, 5.3)]
    thing = round_thing((0.045, 0.045, 0.045), (0.2, 0.5, 0.18))
    stalk = decor("cylinder", (0.015, 0.02), (0, 0, -0.022), (0.6, 0.72, 0.4))
    ball = decor("sphere", (0.028,), (0, 0, 0.014), (0.2, 0.5, 0.18))
    return replace(thing, parts=(replace(thing.parts[0], visible=False), thing.parts[1], stalk, ball, *heads))


def carrot() -> Thing:
    leaf = decor("ellipsoid", (0.02, 0.01, 0.008), (-0.085, 0, 0), GREEN)
    tip = decor("ellipsoid", (0.03, 0.009, 0.009), (0.065, 0, 0), (0.88, 0.46, 0.12))
    return round_thing((0.08, 0.017, 0.017), (0.92, 0.5, 0.14), leaf, tip)


def corn() -> Thing:
    husk = decor("ellipsoid", (0.04, 0.02, 0.021), (-0.055, 0, 0), (0.5, 0.66, 0.28))
    return round_thing((0.085, 0.023, 0.023), (0.93, 0.8, 0.28), husk)


def garlic() -> Thing:
    return round_thing((0.027, 0.027, 0.024), (0.92, 0.9, 0.86), stem((0, 0, 0.024), (0.86, 0.82, 0.74), 0.006))


def mushroom() -> Thing:
    thing = round_thing((0.03, 0.03, 0.026), (0.8, 0.74, 0.68))
    foot = decor("cylinder", (0.012, 0.014), (0, 0, -0.012), (0.93, 0.9, 0.85))
    cap = decor("ellipsoid", (0.03, 0.03, 0.018), (0, 0, 0.008), (0.72, 0.6, 0.5))
    return replace(thing, parts=(replace(thing.parts[0], visible=False), thing.parts[1], foot, cap))


def onion() -> Thing:
    return round_thing((0.037, 0.037, 0.034), (0.76, 0.48, 0.26), stem((0, 0, 0.036), (0.66, 0.45, 0.25), 0.005))


def cucumber() -> Thing:
    size = (0.085, 0.022, 0.022)
    return round_thing(size, (0.25, 0.47, 0.2), *caps(size, (0.42, 0.58, 0.3)))


def avocado() -> Thing:
    stalk = stem((-0.045, 0, 0), BROWN, 0.002, turned("y", math.pi / 2))
    return round_thing((0.045, 0.033, 0.033), (0.22, 0.3, 0.14), stalk)


def lime() -> Thing:
    size = (0.04, 0.03, 0.03)
    return round_thing(size, (0.4, 0.65, 0.18), *caps(size, (0.36, 0.58, 0.16)))


def cup() -> Thing:
    thing = dish(0.038, 0.045, 0.004, (0.86, 0.88, 0.92), base=1.0)
    return replace(thing, stiff=False)


def book() -> Thing:
    return Thing((
        Part("box", (0.09, 0.06, 0.015), rgb=(0.2, 0.27, 0.5)),
        decor("box", (0.0885, 0.0603, 0.0115), (0.002, 0, 0), (0.93, 0.91, 0.85)),
        decor("box", (0.05, 0.03, 0.0002), (0, 0, 0.015), (0.85, 0.75, 0.4)),
    ), (0.09, 0.06, 0.015))


def candle() -> Thing:
    flame = decor("ellipsoid", (0.004, 0.004, 0.009), (0, 0, 0.057), (0.98, 0.7, 0.2))
    return cylinder_thing(0.03, 0.045, (0.92, 0.88, 0.78), stem((0, 0, 0.047), (0.15, 0.13, 0.12), 0.004), flame)


#: The ten objects of the pick-and-place tasks (the benchmark's novel categories).
NOVEL = {
    "sweet_potato": sweet_potato, "bell_pepper": bell_pepper, "lemon": lemon, "croissant": croissant, "pear": pear,
    "squash": squash, "cupcake": cupcake, "can": can, "tomato": tomato, "eggplant": eggplant,
}

#: Members of the benchmark's group "vegetable" that its close tasks can draw.
VEGETABLES = {
    "avocado": avocado, "bell_pepper": bell_pepper, "broccoli": broccoli, "carrot": carrot, "corn": corn,
    "cucumber": cucumber, "eggplant": eggplant, "garlic": garlic, "lemon": lemon, "lime": lime, "mushroom": mushroom,
    "onion": onion, "potato": potato, "squash": squash, "sweet_potato": sweet_potato, "tomato": tomato,
}

#: What may stand at the back edge of the table.
BACK_EDGE = {
    "chips": lambda: carton((0.065, 0.03, 0.1), (0.92, 0.72, 0.16), (0.85, 0.16, 0.12), (0.85, 0.16, 0.12)),
    "cereal": lambda: carton((0.06, 0.025, 0.1), (0.2, 0.42, 0.8), (0.95, 0.9, 0.32), (0.95, 0.85, 0.6)),
    "book": book, "candle": candle,
}

#: Objects of the close tasks, and the factor that their task puts on top (upstream's obj_scale).
CLOSE = {
    "cup": cup, "can": can, "potato": potato,
    "milk": lambda: carton((0.034, 0.034, 0.09), (0.95, 0.95, 0.97), (0.2, 0.42, 0.8), (0.3, 0.55, 0.85)),
    "bottled_water": lambda: bottle(0.032, 0.1, (0.68, 0.82, 0.9), (0.15, 0.35, 0.75), (0.2, 0.45, 0.8)),
    "wine": lambda: bottle(0.036, 0.145, (0.13, 0.2, 0.12), (0.45, 0.08, 0.12), (0.9, 0.86, 0.74)),
}
CLOSE_SCALES = {"cup": 1.1, "can": 1.2, "potato": 1.3, "milk": 1.0, "bottled_water": 1.1, "wine": 1.0}
