"""The object table: what each category of the inventory looks like and how large it is.

Half sizes in metres, as they are in the simulation (before upstream's extra factors for single tasks). They are
plausible for the category, and chosen so that the 18 tasks' objects fit a hand and their containers; upstream's own
models are not known here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from suites.robocasa_gr1.standin.meshes import join, tube
from suites.robocasa_gr1.standin.textures import (
    bands,
    brushed,
    capped,
    clouds,
    framed,
    kernels,
    label,
    plain,
    planks,
    streaks,
    weave,
    wood,
)
from suites.robocasa_gr1.standin.things import (
    BLACK,
    GREEN,
    WOOD,
    Part,
    Thing,
    bag,
    book,
    bottle,
    broccoli,
    candle,
    carton,
    crescent,
    cupcake,
    dish,
    ears,
    packet,
    produce,
    stalk,
    stick,
    tiers,
    tin,
    tray,
)

Rng = np.random.Generator

# Outlines (radius, height) of any scale: the builders fit them to their half sizes.
EGG = [(0.01, -1), (0.55, -0.85), (0.9, -0.45), (1, 0), (0.9, 0.45), (0.55, 0.85), (0.01, 1)]
SPINDLE = [(0.01, -1), (0.3, -0.88), (0.75, -0.5), (1, -0.05), (0.9, 0.35), (0.5, 0.75), (0.15, 0.95), (0.01, 1)]
CAPSULE = [(0.01, -1), (0.6, -0.97), (0.95, -0.85), (1, 0), (0.95, 0.85), (0.6, 0.97), (0.01, 1)]
NIPPLES = [(0.01, -1), (0.18, -0.97), (0.3, -0.85), (0.85, -0.5), (1, 0), (0.85, 0.5), (0.3, 0.85), (0.18, 0.97),
           (0.01, 1)]
PEAR = [(0.01, -1), (0.6, -0.95), (1, -0.45), (0.9, 0), (0.5, 0.4), (0.38, 0.7), (0.25, 0.85), (0.01, 0.88)]
GOURD = [(0.01, -1), (0.65, -0.93), (1, -0.6), (0.9, -0.25), (0.62, 0.05), (0.58, 0.6), (0.5, 0.9), (0.01, 1)]
DROP = [(0.01, -1), (0.7, -0.9), (1, -0.5), (0.85, 0), (0.6, 0.45), (0.45, 0.8), (0.2, 0.95), (0.01, 1)]
ROOT = [(0.01, -1), (0.2, -0.85), (0.6, 0), (0.92, 0.7), (1, 0.9), (0.6, 0.98), (0.01, 1)]
BELL = [(0.01, -0.9), (0.55, -1), (0.85, -0.6), (0.98, 0.1), (1, 0.45), (0.75, 0.75), (0.35, 0.72), (0.01, 0.6)]
DIMPLED = [(0.01, -0.92), (0.5, -1), (0.95, -0.4), (1, 0.1), (0.8, 0.7), (0.4, 0.86), (0.01, 0.7)]
BULB = [(0.01, -0.95), (0.6, -0.9), (1, -0.35), (0.85, 0.15), (0.4, 0.5), (0.15, 0.8), (0.1, 1), (0.01, 1)]
CAP = [(0.01, -1), (0.35, -1), (0.32, -0.2), (0.38, 0.0), (0.95, 0.0), (1, 0.25), (0.75, 0.75), (0.3, 0.98), (0.01, 1)]


def corn(rng: Rng) -> Thing:
    """An ear of corn with two husk leaves at its end."""
    husk = [tube([(-0.085, 0, 0), (-0.06, s * 0.012, 0.002), (-0.02, s * 0.024, 0.0)], [0.004, 0.018, 0.003], 10, 0.4)
            for s in (-1, 1)]
    taper = [(0.01, -1), (0.75, -0.97), (1, -0.7), (0.97, 0), (0.75, 0.7), (0.4, 0.95), (0.01, 1)]
    return produce((0.085, 0.023, 0.023), taper, kernels((240, 204, 82), (196, 142, 40)),
                   extra=(Part(join(husk), streaks((150, 172, 88), (112, 140, 60))),))


def bell_pepper(rng: Rng) -> Thing:
    """Red, yellow or green, with four lobes."""
    colour = ((186, 32, 26), (226, 168, 30), (58, 116, 44))[rng.integers(3)]
    return produce((0.037, 0.037, 0.045), BELL, clouds(colour, tuple(int(0.85 * c) for c in colour)), False,
                   (stalk(0.022, 0.045),), lobes=4, depth=0.07)


def carrot(rng: Rng) -> Thing:
    """With a tuft of green."""
    tuft = [tube([(0.072, 0, 0), (0.078, s * 0.004, 0.004), (0.082, s * 0.011, 0.008 - 0.008 * abs(s))],
                 [0.003, 0.002, 0.001], 6) for s in (-1, 0, 1)]
    return produce((0.08, 0.017, 0.017), ROOT, clouds((232, 126, 40), (212, 104, 28), (3, 20)),
                   extra=(Part(join(tuft), plain(GREEN)),))


def cutting_board(rng: Rng) -> Thing:
    """A wooden board with a darker edge."""
    return packet((0.17, 0.12, 0.009), framed(planks((206, 164, 112), (172, 126, 78)), (166, 120, 74), 0.02))


def placemat(rng: Rng) -> Thing:
    """Woven, with a border."""
    light, dark = (((156, 140, 104), (116, 100, 70)), ((120, 132, 140), (84, 94, 104)),
                   ((170, 120, 96), (130, 86, 66)))[rng.integers(3)]
    return packet((0.19, 0.14, 0.003), framed(weave(light, dark, 28), dark, 0.04))


def serving_tray(rng: Rng) -> Thing:
    """A low wooden tray with a bar at either end."""
    low = tray((0.19, 0.135, 0.018), 0.006, wood((132, 98, 72), (98, 70, 50)), wood((116, 84, 60), (84, 60, 42)))
    grips = [tube([(s * 0.187, -0.04, 0.012), (s * 0.187, -0.03, 0.024), (s * 0.187, 0.03, 0.024),
                   (s * 0.187, 0.04, 0.012)], [0.004] * 4, 8) for s in (-1, 1)]
    return Thing((*low.parts, Part(join(grips), plain(BLACK))), low.solids, low.half)


def cardboard_box(rng: Rng) -> Thing:
    """Open, with a strip of tape and a print on its sides."""
    board = (184, 146, 98)
    return tray((0.16, 0.12, 0.06), 0.005, bands((0.44, board), (0.56, (202, 176, 130)), (1.0, board)),
                label(board, board, (120, 88, 54), 0.3, 0.7))


def pan(rng: Rng) -> Thing:
    """A frying pan; its handle lies outside the box that it is placed by."""
    part, solid = stick(0.115, 0.014, 0.12, (30, 30, 32))
    return dish(0.115, 0.024, 0.005, 0.85, plain((52, 52, 56)), brushed((74, 74, 78)), (part,), (solid,))


def pot(rng: Rng) -> Thing:
    """A steel pot with two small handles."""
    parts, solids = ears(0.105, 0.03, BLACK)
    return dish(0.105, 0.055, 0.005, 0.96, brushed((168, 170, 174)), brushed((142, 144, 148)), parts, solids)


def plate(rng: Rng) -> Thing:
    """White, with a coloured ring on the rim."""
    ring = ((70, 96, 140), (150, 84, 70), (96, 124, 96), (120, 120, 122))[rng.integers(4)]
    white = (234, 232, 226)
    inside = bands((0.06, ring), (0.10, white), (0.13, ring), (1.0, white))
    return dish(0.105, 0.011, 0.004, 0.65, plain(white), inside)


def bowl(rng: Rng) -> Thing:
    """Glazed, darker outside."""
    colour = ((96, 130, 150), (150, 112, 84), (104, 128, 92), (186, 182, 172))[rng.integers(4)]
    return dish(0.085, 0.035, 0.006, 0.75, clouds(colour, tuple(int(0.85 * c) for c in colour)), plain((226, 222, 212)))


def cup(rng: Rng) -> Thing:
    """A mug; its handle is drawn only."""
    colour = ((206, 210, 222), (176, 74, 66), (78, 110, 152), (212, 178, 92))[rng.integers(4)]
    arc = np.linspace(-1.35, 1.35, 13)
    handle = tube([(0.034 + 0.018 * np.cos(a), 0, 0.024 * np.sin(a)) for a in arc], [0.0035] * len(arc), 8)
    return dish(0.038, 0.045, 0.004, 0.94, plain(colour), plain((226, 224, 218)), (Part(handle, plain(colour)),))


def soda(rng: Rng) -> Thing:
    """A soft drink's can."""
    colour = ((188, 26, 30), (30, 84, 168), (36, 130, 66), (226, 132, 30))[rng.integers(4)]
    return tin(0.033, 0.058, label(colour, (236, 236, 234), colour, 0.35, 0.68))


def wine(rng: Rng) -> Thing:
    """A dark bottle."""
    return bottle(0.036, 0.145, (34, 46, 32), (112, 24, 34), label((214, 202, 176), (230, 220, 196), (92, 30, 36)))


def basket(rng: Rng) -> Thing:
    """Wicker."""
    light, dark = ((186, 146, 92), (128, 94, 54)) if rng.integers(2) else ((206, 176, 124), (150, 118, 74))
    return tray((0.15, 0.11, 0.055), 0.007, weave(light, dark, 12), weave(light, dark, 12), rim=0.009)


def tiered_basket(rng: Rng) -> Thing:
    """Two wire baskets on black posts."""
    return tiers((0.17, 0.13, 0.17), 0.006, weave((118, 110, 104), (66, 60, 58), 16), brushed((58, 54, 52)), 0.03)


def tiered_shelf(rng: Rng) -> Thing:
    """Two wooden boards."""
    return tiers((0.17, 0.13, 0.16), 0.007, wood((196, 160, 116), (160, 122, 80)), wood(WOOD, (116, 80, 48)))


def chips(rng: Rng) -> Thing:
    """A bag of crisps."""
    ground = ((228, 178, 36), (200, 44, 36), (44, 124, 66))[rng.integers(3)]
    return bag((0.065, 0.03, 0.1), label(ground, (244, 236, 214), (170, 30, 26), 0.35, 0.65))


#: Category -> a builder of one instance, which draws its variety from the generator.
OBJECTS: dict[str, Callable[[Rng], Thing]] = {
    "sweet_potato": lambda rng: produce((0.075, 0.032, 0.032), SPINDLE, clouds((166, 92, 64), (140, 70, 48), (5, 20)),
                                        bumps=0.10, rng=rng),
    "bell_pepper": bell_pepper,
    "lemon": lambda rng: produce((0.04, 0.029, 0.029), NIPPLES, clouds((238, 208, 52), (226, 190, 36), (12, 30))),
    "croissant": lambda rng: crescent((0.07, 0.035, 0.027), streaks((212, 150, 74), (156, 94, 36), 40)),
    "pear": lambda rng: produce((0.035, 0.035, 0.048), PEAR, clouds((182, 184, 76), (158, 160, 58), (4, 30)), False,
                                (stalk(0.014, 0.048, 0.002, (90, 66, 40)),)),
    "squash": lambda rng: produce((0.085, 0.034, 0.034), GOURD, capped(streaks((222, 176, 104), (204, 152, 78)),
                                                                       (126, 118, 70), 0.95)),
    "cupcake": lambda rng: cupcake(0.034, 0.033, streaks((116, 66, 40), (86, 46, 26), 60),
                                   plain(((236, 176, 186), (240, 226, 202), (120, 76, 50))[rng.integers(3)])),
    "can": soda,
    "tomato": lambda rng: produce((0.036, 0.036, 0.031), DIMPLED, capped(clouds((204, 46, 32), (186, 34, 24)),
                                                                         GREEN, 0.86, 0.05), False),
    "eggplant": lambda rng: produce((0.09, 0.034, 0.034), DROP, capped(clouds((66, 30, 78), (46, 18, 58)), GREEN, 0.88,
                                                                      0.04)),
    "cup": cup,
    "potato": lambda rng: produce((0.05, 0.033, 0.03), EGG, clouds((178, 142, 92), (150, 114, 68), (6, 24)),
                                  bumps=0.12, rng=rng),
    "milk": lambda rng: carton((0.034, 0.034, 0.09), label((240, 240, 242), (58, 108, 190), (240, 240, 242)),
                               (226, 228, 234)),
    "bottled_water": lambda rng: bottle(0.032, 0.1, (168, 206, 224), (36, 88, 172),
                                        label((60, 120, 196), (228, 238, 246), (30, 70, 150))),
    "wine": wine,
    "avocado": lambda rng: produce((0.045, 0.033, 0.033), DROP, clouds((62, 78, 40), (40, 54, 26), (12, 40))),
    "broccoli": lambda rng: broccoli((0.045, 0.045, 0.045), clouds((62, 116, 48), (36, 84, 32), (20, 60)),
                                     plain((150, 176, 104)), rng),
    "carrot": carrot,
    "corn": corn,
    "cucumber": lambda rng: produce((0.085, 0.022, 0.022), CAPSULE, streaks((76, 122, 54), (48, 90, 36), 16)),
    "garlic": lambda rng: produce((0.027, 0.027, 0.024), BULB, streaks((236, 230, 220), (210, 198, 196), 20), False,
                                  lobes=7, depth=0.05),
    "lime": lambda rng: produce((0.04, 0.03, 0.03), NIPPLES, clouds((116, 164, 52), (90, 138, 38), (12, 30))),
    "mushroom": lambda rng: produce((0.03, 0.03, 0.026), CAP, bands((0.35, (214, 200, 178)), (0.55, (150, 116, 92)),
                                                                    (1.0, (204, 178, 148))), False),
    "onion": lambda rng: produce((0.037, 0.037, 0.034), BULB, streaks((196, 130, 72), (160, 96, 48), 36), False),
    "cutting_board": cutting_board,
    "placemat": placemat,
    "tray": serving_tray,
    "plate": plate,
    "bowl": bowl,
    "pan": pan,
    "pot": pot,
    "basket": basket,
    "cardboard_box": cardboard_box,
    "tiered_basket": tiered_basket,
    "tiered_shelf": tiered_shelf,
    "chips": chips,
    "cereal": lambda rng: packet((0.06, 0.025, 0.1), label((44, 100, 190), (244, 214, 76), (196, 40, 34), 0.4, 0.85)),
    "candle": lambda rng: candle(0.03, 0.045, (240, 232, 206), label((206, 196, 176), (236, 230, 214), (120, 100, 76))),
    "book": lambda rng: book((0.09, 0.06, 0.015), label((58, 74, 122), (190, 160, 90), (40, 44, 70), 0.55, 0.8)),
}
