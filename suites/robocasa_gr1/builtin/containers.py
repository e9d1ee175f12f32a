"""The containers as lists of primitive geoms: where objects are taken from and where they go.

All sizes are made up for the category: nothing here is measured on, or derived from, an asset of the benchmark.
"""

from __future__ import annotations

from suites.robocasa_gr1.builtin.objects import TIERED_DENSITY, Colour, Part, Thing, Vector, decor, dish

WOOD, DARK = (0.72, 0.55, 0.36), (0.12, 0.12, 0.13)


def board(size: Vector, rgb: Colour, *looks: Part, material: str = "matte") -> Thing:
    """A flat box."""
    return Thing((Part("box", size, rgb=rgb, material=material), *looks), size)


def open_box(size: Vector, wall: float, rgb: Colour, rim: Colour | None = None) -> Thing:
    """A box without lid; wall: half thickness. rim: colour of a strip around the upper edge."""
    x, y, z = size
    walls = [((side * (x - wall), 0, wall), (wall, y, z - wall)) for side in (1, -1)]
    walls += [((0, side * (y - wall), wall), (x - 2 * wall, wall, z - wall)) for side in (1, -1)]
    parts = [Part("box", (x, y, wall), (0, 0, wall - z), rgb=rgb)]
    parts += [Part("box", half, pos, rgb=rgb) for pos, half in walls]
    if rim:
        strip = 0.12 * z
        parts += [decor("box", (half[0] + 0.0015, half[1] + 0.0015, strip), (pos[0], pos[1], z - strip + 0.0005), rim)
                  for pos, half in walls]
    return Thing(tuple(parts), size)


def tiers(size: Vector, wall: float, rgb: Colour, rim: float = 0.0) -> Thing:
    """Two boards on four posts, the lower one near the floor, the upper at 5/8 of the height; wall: half thickness.

    rim: height of a fence around each board, 0 for none. The region is the space above the upper board.
    """
    x, y, z = size
    posts = [(sx * (x - wall), sy * (y - wall), 0.0) for sx in (-1, 1) for sy in (-1, 1)]
    parts = [Part("box", (wall, wall, z), post, rgb=rgb) for post in posts]
    levels = (0.012 - z, 0.25 * z)
    for level in levels:
        parts.append(Part("box", (x - 2 * wall, y - 2 * wall, wall), (0, 0, level), rgb=rgb))
        if rim:
            parts += [Part("box", (wall, y - 2 * wall, rim / 2), (side * (x - wall), 0, level + rim / 2), rgb=rgb)
                      for side in (-1, 1)]
            parts += [Part("box", (x - 2 * wall, wall, rim / 2), (0, side * (y - wall), level + rim / 2), rgb=rgb)
                      for side in (-1, 1)]
    free = (z - levels[1] - wall) / 2
    region = Part("box", (x - 3 * wall, y - 3 * wall, free), (0, 0, z - free), solid=False, visible=False)
    return Thing(tuple(parts), size, region=region, density=TIERED_DENSITY, stiff=False)


def cutting_board() -> Thing:
    grain, places = (0.6, 0.44, 0.27), (-0.07, -0.02, 0.03, 0.08)
    lines = [decor("box", (0.1695, 0.0012, 0.0003), (0, y, 0.009), grain) for y in places]
    hole = decor("cylinder", (0.012, 0.0004), (-0.145, 0, 0.009), (0.25, 0.18, 0.12))
    return board((0.17, 0.12, 0.009), WOOD, *lines, hole)


def placemat() -> Thing:
    thread, places = (0.75, 0.68, 0.52), (-0.17, -0.16, 0.16, 0.17)
    lines = [decor("box", (0.002, 0.139, 0.0003), (x, 0, 0.003), thread) for x in places]
    return board((0.19, 0.14, 0.003), (0.42, 0.45, 0.36), *lines)


def plate() -> Thing:
    return dish(0.105, 0.011, 0.004, (0.93, 0.93, 0.91), base=0.65)


def bowl() -> Thing:
    return dish(0.085, 0.035, 0.006, (0.62, 0.76, 0.84), base=0.75)


def pan() -> Thing:
    return dish(0.115, 0.024, 0.005, (0.2, 0.2, 0.22), base=1.0, rim=DARK, handle=0.15)


def pot() -> Thing:
    return dish(0.105, 0.055, 0.005, (0.62, 0.62, 0.65), base=1.0, rim=DARK, handle=0.15, material="metal")


CONTAINERS = {
    "cutting_board": cutting_board, "placemat": placemat, "plate": plate, "bowl": bowl, "pan": pan, "pot": pot,
    "tray": lambda: open_box((0.19, 0.135, 0.018), 0.006, (0.42, 0.31, 0.24)),
    "basket": lambda: open_box((0.15, 0.11, 0.055), 0.007, (0.74, 0.58, 0.36), rim=(0.55, 0.38, 0.2)),
    "cardboard_box": lambda: open_box((0.16, 0.12, 0.06), 0.005, (0.74, 0.57, 0.38)),
    "tiered_basket": lambda: tiers((0.17, 0.13, 0.17), 0.006, (0.34, 0.3, 0.29), rim=0.03),
    "tiered_shelf": lambda: tiers((0.17, 0.13, 0.16), 0.007, (0.68, 0.6, 0.52)),
}

#: Flat containers that objects start on, and containers that they go to (upstream's tabletop_24dc.py).
SOURCES = ("cutting_board", "tray", "plate", "placemat")
TARGETS = ("basket", "pan", "pot", "bowl", "plate", "tiered_shelf", "tiered_basket", "cardboard_box")

#: What may not be a distractor beside the key, because it is too much like it (upstream's tabletop_24dc.py).
SIMILAR = {
    "tray": ("cutting_board",), "cutting_board": ("tray",), "basket": ("tiered_basket",),
    "tiered_basket": ("basket", "tiered_shelf"), "tiered_shelf": ("tiered_basket",), "pot": ("pan",), "pan": ("pot",),
}

#: Factor on the size of the task's target container only (upstream's OBJ_SCALES).
TARGET_SCALES = {"tiered_shelf": 0.7, "tiered_basket": 0.7, "plate": 1.2, "cardboard_box": 0.9}
