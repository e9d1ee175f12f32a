"""What upstream loads without joints of its own: groceries, dishes, books, and things to put others into.

One row an object. Numbers are metres and kilograms, in the object's own frame (z up; `y_up()` where
upstream's frame has y up). source: measured bounding boxes, wall angles, masses and sites of upstream's
collision geometry; the construction from boxes is ours.
"""

import dataclasses
import math

from suites.libero.standin.mjcf import Body, Placing, Site
from suites.libero.standin.shapes import (
    Shape,
    Vec,
    about,
    ball,
    block,
    blocks,
    hollow,
    join,
    lathe,
    only_drawn,
    only_solid,
    prism,
    rods,
    slab,
    sleeve,
    vessel,
)

SMALL = Placing(0.06, 0.04, 0.025)  # most of upstream's objects carry these sampling sites, whatever their size


@dataclasses.dataclass(frozen=True)
class Thing:
    """One object: `folder` of upstream's layout, root body, and the sites that place it."""

    folder: str
    body: Body
    placing: Placing = SMALL


# --- builders of one kind of thing each -----------------------------------------------------------


def carton(low: Vec, high: Vec, shoulder: float, look: str, band: str, cap: str) -> Shape:
    """A gable-top drink carton, z up: box up to `shoulder`, then a roof that ends in a ridge."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    middle, depth, rise = (y0 + y1) / 2, y1 - y0, z1 - shoulder
    roof = [
        block((x0, middle - depth * w, shoulder + rise * a), (x1, middle + depth * w, shoulder + rise * b), cap)
        for w, a, b in ((0.42, 0.0, 0.34), (0.24, 0.34, 0.72), (0.07, 0.72, 1.0))
    ]
    third = (shoulder - z0) / 3
    label = sleeve((x0, y0, z0 + third), (x1, y1, z0 + 2 * third), band)
    return join(block(low, (x1, y1, shoulder), look), *roof, label)


def can(radius: float, bottom: float, top: float, centre_y: float, label: str, band: str) -> Shape:
    """A tin can, z up, with a printed label between two metal ends."""
    height = top - bottom
    body = prism(radius, bottom, top, "metal")
    print_ = only_drawn(prism(radius + 0.0006, bottom + 0.06 * height, top - 0.06 * height, label))
    stripe = only_drawn(prism(radius + 0.0012, bottom + 0.36 * height, bottom + 0.62 * height, band))
    return join(body, print_, stripe).moved((0, centre_y, 0))


def packet(low: Vec, high: Vec, look: str, band: str) -> Shape:
    """A grocery box with a broad printed band across its long axis."""
    long = 0 if high[0] - low[0] > high[1] - low[1] else 1
    start, end = list(low), list(high)
    third = (high[long] - low[long]) / 3
    start[long], end[long] = low[long] + third, high[long] - third
    stripe = [c - 0.0004 for c in start], [c + 0.0004 for c in end]
    return join(block(low, high, look), only_drawn(block(tuple(stripe[0]), tuple(stripe[1]), band)))


def bottle(storeys: tuple[Vec, ...], neck: Vec, look: str, label: str, cap: str) -> Shape:
    """A flat-bodied bottle, z up: boxes (half x, half y, bottom, top) that narrow, then a round cap.

    Args:
        storeys: the boxes from the bottom; the first one carries the label.
        neck: (radius, bottom, top).
    """
    solid = [only_solid(block((-x, -y, z0), (x, y, z1), look)) for x, y, z0, z1 in storeys]
    rounded = [
        only_drawn(block((-x, -y, z0), (x, y, z1), look)) if k == 0 else _loft(storeys[k - 1], storeys[k], look)
        for k, (x, y, z0, z1) in enumerate(storeys)
    ]
    x, y, z0, z1 = storeys[0]
    radius, low, high = neck
    print_ = sleeve((-x, -y, z0 + 0.2 * (z1 - z0)), (x, y, z0 + 0.8 * (z1 - z0)), label)
    return join(*solid, *rounded, print_, prism(radius, low, high, cap))


def _loft(below: Vec, storey: Vec, look: str) -> Shape:
    """A drawn, rounded shoulder: an ellipsoid around a storey that is narrower than the one below it."""
    (x, y, _, _), (_, _, z0, z1) = below, storey
    return ball((0, 0, z0), (x, y, 1.25 * (z1 - z0)), look)


def mug(
    centre: Vec, profile: tuple[Vec, ...], half_thick: tuple[float, ...], floor: Vec, handle: tuple[Vec, ...],
    half_width: float, look: str, handle_look: str, dots: str | None = None, sides: int = 8,
) -> Shape:  # fmt: skip
    """A cup around (x, y) `centre` with a handle along the (x, z) points of `handle`."""
    cup = vessel(profile, half_thick, floor, look, sides).moved((*centre, 0.0))
    grip = rods([(x, centre[1], z) for x, z in handle], half_width, 0.0035, handle_look, drawn_radius=0.0055)
    if dots is None:
        return cup + grip
    return join(cup, grip, _dots(profile[-2:], half_thick[-1], dots).moved((*centre, 0.0)))


def _dots(wall: tuple[Vec, Vec], half_thick: float, look: str) -> Shape:
    """Drawn spots on the outside of a round wall between two (radius, z) points."""
    (r0, z0), (r1, z1) = wall
    spot = []
    for row in range(4):
        share = 0.2 + 0.2 * row
        centre = (r0 + share * (r1 - r0) + half_thick, 0.0, z0 + share * (z1 - z0))
        for k in range(8):
            angle = 2 * math.pi * (k + 0.5 * (row % 2)) / 8
            spot.append(ball(centre, (0.0015, 0.004, 0.004), look).moved((0, 0, 0), about((0, 0, 1), angle)))
    return join(*spot)


def book(low: Vec, high: Vec, look: str) -> Shape:
    """An upright closed book: pages between two covers, spine on the +y side, which most scenes show."""
    cover = 0.15 * (high[0] - low[0])
    pages = (low[0] + cover, low[1] - 0.0005, low[2]), (high[0] - cover, high[1] - cover, high[2] + 0.0005)
    return join(block(low, high, look), only_drawn(block(*pages, "page")))


def bowl(profile: tuple[Vec, ...], half_thick: tuple[float, ...], floor: Vec, look: str, inside: str) -> Shape:
    """A bowl of 16 sides: as round as the fingers that take its rim need it."""
    return vessel(profile, half_thick, floor, look, sides=16, inside=inside)


# --- groceries ------------------------------------------------------------------------------------

SALAD_STOREYS = (
    (0.0264, 0.0175, -0.0728, -0.0104), (0.0225, 0.0173, -0.0104, 0.0028), (0.0150, 0.0150, 0.0028, 0.0358),
)  # fmt: skip
SALAD_BOTTLE = bottle(SALAD_STOREYS, (0.0165, 0.0358, 0.0728), "pale_green", "white", "green")
NEW_SALAD_BOTTLE = bottle(SALAD_STOREYS, (0.0165, 0.0358, 0.0728), "amber", "cream", "green")
KETCHUP = bottle(
    ((0.0281, 0.0172, -0.0724, -0.0063), (0.0239, 0.0183, -0.0063, 0.0150), (0.0187, 0.0183, 0.0150, 0.0364)),
    (0.0162, 0.0364, 0.0732), "ketchup_red", "white", "white",
).moved((0.0004, -0.0008, 0))  # fmt: skip
BARBECUE = bottle(
    ((0.0235, 0.0145, -0.0546, -0.0023), (0.0181, 0.0143, -0.0023, 0.0257)),
    (0.0144, 0.0257, 0.0525), "barbecue_brown", "yellow", "soft_black",
)  # fmt: skip
MILK = carton((-0.0265, -0.0263, -0.0698), (0.0265, 0.0263, 0.0614), 0.0398, "white", "blue", "light_blue")
ORANGE_JUICE = carton((-0.0265, -0.0263, -0.0698), (0.0265, 0.0263, 0.0614), 0.0398, "orange", "white", "green")
SOUP = can(0.0312, -0.0386, 0.0376, 0.0036, "blue", "yellow")
TOMATO = can(0.0312, -0.0386, 0.0376, 0.0034, "red", "green")
BUTTER = packet((-0.0381, -0.0198, -0.0087), (0.0381, 0.0198, 0.0087), "butter_yellow", "red")
CREAM_CHEESE = packet((-0.0406, -0.0213, -0.0089), (0.0406, 0.0213, 0.0089), "light_blue", "white")
PUDDING = packet((-0.0401, -0.0232, -0.0131), (0.0401, 0.0232, 0.0143), "chocolate", "cream")
COOKIES = packet((-0.0310, -0.0413, -0.0094), (0.0310, 0.0413, 0.0094), "amber", "dark_red")

# --- dishes ---------------------------------------------------------------------------------------

# The lower wall is thicker than upstream's 1.4 mm, inwards: a bowl that falls 15 cm onto a ramekin's edge, as in
# libero_spatial task 5, must not pass through it and be thrown.
BLACK_BOWL = bowl(
    ((0.0221, 0.0058), (0.0432, 0.0154), (0.0520, 0.0520)), (0.0030, 0.0013), (0.0235, 0.0016, 0.0068),
    "black_glaze", "grey_glaze",
)  # fmt: skip
WHITE_BOWL = bowl(
    ((0.0166, 0.0028), (0.0317, 0.0108), (0.0394, 0.0350)), (0.0005, 0.0010), (0.0168, 0.0006, 0.0042),
    "porcelain", "cream",
)  # fmt: skip
PLATE = vessel(
    ((0.0300, 0.0001), (0.0663, 0.0133)), (0.0025,), (0.0286, 0.0009, 0.0053), "porcelain", sides=8, rim="red"
)
RAMEKIN = vessel(
    ((0.0351, 0.0010), (0.0413, 0.0424)),
    (0.0026,),
    (0.0355, 0.0009, 0.0073),
    "porcelain",
    sides=16,
    rim="amber",
)
FRYPAN = join(
    vessel(((0.0720, 0.0035), (0.0945, 0.0410)), (0.0036,), (0.0690, 0.0008, 0.0122), "pan_grey", sides=16),
    rods(((0.092, 0, 0.022), (0.126, 0, 0.030)), 0.0110, 0.0090, "dark_metal"),
    rods(((0.126, 0, 0.0355), (0.2592, 0, 0.0520)), 0.0127, 0.0065, "soft_black"),
)
PORCELAIN_MUG = mug(
    (0.0155, -0.0012), ((0.0295, 0.0065), (0.0427, 0.0420), (0.0427, 0.1085)), (0.0014, 0.0024),
    (0.0250, 0.0024, 0.0128), ((-0.025, 0.092), (-0.0600, 0.075), (-0.0600, 0.040), (-0.020, 0.019)),
    0.0080, "porcelain", "porcelain",
)  # fmt: skip
RED_MUG = mug(
    (-0.0165, -0.0006), ((0.0255, -0.0014), (0.0395, 0.1304)), (0.0035,), (0.0240, 0.0028, 0.0078),
    ((0.0170, 0.1130), (0.0550, 0.1100), (0.0580, 0.0780), (0.0160, 0.0290)),
    0.0072, "dark_red", "red", dots="white",
)  # fmt: skip
WHITE_YELLOW_MUG = mug(
    (-0.0185, 0.0), ((0.0252, 0.0033), (0.0375, 0.0175), (0.0480, 0.1025)), (0.0030, 0.0041),
    (0.0250, 0.0001, 0.0052), ((0.025, 0.0796), (0.0640, 0.0790), (0.0640, 0.0300), (0.020, 0.0230)),
    0.0088, "porcelain", "yellow", sides=12,
)  # fmt: skip
MOKA_POT = join(
    only_solid(prism(0.0375, -0.0661, 0.0669, "metal")),
    lathe(((0, -0.0661), (0.041, -0.0661), (0.033, 0.0), (0.041, 0.066), (0.0, 0.0669)), "metal", segments=8),
    slab((0, -0.045, 0.050), (0.009, 0.0113, 0.015), "metal"),  # spout
    prism(0.006, 0.0629, 0.0857, "soft_black"),
    rods(
        ((0, 0.036, 0.059), (0, 0.080, 0.059), (0, 0.080, 0.040), (0, 0.058, -0.008)),
        0.0066,
        0.0100,
        "soft_black",
    ),
)
WINE_BOTTLE = join(
    only_solid(prism(0.0200, 0.0011, 0.0640, "bottle_green", sides=12)),
    only_solid(prism(0.0118, 0.0640, 0.0881, "bottle_green"), prism(0.0075, 0.0881, 0.1580, "bottle_green")),
    lathe(
        (
            (0, 0.0011),
            (0.020, 0.0011),
            (0.020, 0.064),
            (0.0155, 0.075),
            (0.0075, 0.094),
            (0.0075, 0.157),
            (0, 0.158),
        ),
        "bottle_green",
    ),
    only_drawn(prism(0.0204, 0.018, 0.050, "cream"), prism(0.0080, 0.132, 0.1584, "dark_red")),
)

# --- books ----------------------------------------------------------------------------------------

BLACK_BOOK = book((-0.0148, -0.0673, 0.0022), (0.0139, 0.0430, 0.1366), "soft_black")
YELLOW_BOOK = book((-0.0101, -0.0488, 0.0020), (0.0134, 0.0489, 0.1242), "yellow")

# --- holders --------------------------------------------------------------------------------------

QUARTER_Y = about((0, 1, 0), math.pi / 2)
HALF_Y = (0.0, 0.0, 1.0, 0.0)

BASKET_LOW, BASKET_HIGH = (-0.0841, -0.0785, 0.0042), (0.0854, 0.0788, 0.1457)
BASKET = join(
    hollow(BASKET_LOW, BASKET_HIGH, (0.0210, 0.0198), 0.0178, "weave"),
    only_drawn(  # a light lining folded over the edge, so that the opening is seen from above
        hollow((-0.0846, -0.0790, 0.138), (0.0859, 0.0793, 0.1462), (0.0220, 0.0208), 0.0, "cloth")
    ),
)
BASKET_SITES = (
    Site("contain_region", (0, 0, 0.07185), (0.06108, 0.06108, 0.06949), (0, 0, 0, 1)),
)  # fmt: skip

TRAY = join(
    hollow((-0.1416, -0.0876, -0.0010), (0.1555, 0.0789, 0.0590), (0.0050, 0.0062), 0.0090, "tray_wood"),
    *(
        block((x - 0.0065, y - 0.0060, 0.0080), (x + 0.0065, y + 0.0060, 0.0800), "tray_wood")
        for x in (-0.132, 0.145)
        for y in (-0.0785, 0.0685)
    ),
    *(block((x - 0.0067, -0.0835, 0.0785), (x + 0.0067, 0.0737, 0.0809), "tray_wood") for x in (-0.1335, 0.1471)),
)
TRAY_SITES = (Site("contain_region", (0.00863, -0.00471, 0.04255), (0.04038, 0.07839, 0.13549), QUARTER_Y),)

CADDY = blocks(
    "caddy_brown",
    ((-0.0755, -0.2169, 0.0014), (0.0755, 0.2169, 0.0138)),
    ((-0.0709, -0.2156, 0.0050), (0.0709, -0.2032, 0.1674)),  # right compartment: high on all sides
    ((-0.0706, -0.0742, 0.0050), (0.0706, -0.0618, 0.1674)),
    ((-0.0709, -0.2156, 0.0138), (-0.0629, -0.0650, 0.1673)),
    ((-0.0709, -0.0650, 0.0138), (-0.0629, 0.2098, 0.0741)),  # low front of the other two
    ((0.0628, -0.2098, 0.0138), (0.0708, 0.2098, 0.1683)),  # back
    ((-0.0056, -0.0650, 0.0118), (0.0024, 0.0690, 0.0986)),  # between front and back compartment
    *(
        corners
        for y in (0.0706, 0.2084)
        for corners in (
            ((-0.0706, y - 0.0036, 0.0120), (0.0706, y + 0.0036, 0.0785)),
            ((0.0000, y - 0.0036, 0.0785), (0.0690, y + 0.0036, 0.1120)),
            ((0.0300, y - 0.0036, 0.1120), (0.0690, y + 0.0036, 0.1600)),
        )
    ),
)
CADDY_SITES = (
    Site("right_contain_region", (0.00631, -0.14339, 0.06558), (0.06196, 0.06216, 0.06046), HALF_Y),
    Site("left_contain_region", (0.00631, 0.14551, 0.06558), (0.06196, 0.06216, 0.06046), HALF_Y),
    Site("back_contain_region", (0.03364, -0.00064, 0.08558), (0.02775, 0.06216, 0.06046), HALF_Y),
    Site(
        "front_contain_region",
        (-0.03102, -0.00064, 0.04054),
        (0.02775, 0.03595, 0.06216),
        (0, 0, 0.70711, -0.70711),
    ),
)

SHELF = blocks(
    "pale_wood",
    ((-0.1609, -0.0792, 0.0002), (-0.1467, 0.1117, 0.2090)),
    ((0.1560, -0.0792, 0.0002), (0.1702, 0.1117, 0.2090)),
    ((-0.1604, 0.1070, 0.0002), (0.1662, 0.1117, 0.2090)),
    ((-0.1481, -0.0709, 0.0690), (0.1585, 0.1083, 0.0712)),
    ((-0.1708, -0.0790, 0.2057), (0.1807, 0.1116, 0.2106)),
)
SHELF_SITES = (
    Site("top_side", (0.00496, 0.01567, 0.20688), (0.17557, 0.09438, 0.00147)),
    Site("top_region", (0.00538, 0.01687, 0.13672), (0.06739, 0.08564, 0.15093), (0.70711, 0, -0.70711, 0)),
    Site("bottom_region", (0.00555, 0.01687, 0.01407), (0.03528, 0.08564, 0.15580), QUARTER_Y),
)

PLANK_TILT = about((1, 0, 0), 0.547)  # both planks of the wine rack rise towards +y by 31 degrees
POST_TILT = about((1, 0, 0), 0.2765 - math.pi / 2)
RACK = join(
    slab((0, -0.0061, 0.2512), (0.1344, 0.0789, 0.0045), "pale_wood", PLANK_TILT),
    slab((0, -0.0427, 0.1273), (0.1344, 0.0789, 0.0045), "pale_wood", PLANK_TILT),
    slab((0, -0.0748, 0.2207), (0.1322, 0.0011, 0.0087), "pale_wood", PLANK_TILT),  # stoppers at the low ends
    slab((0, -0.1091, 0.0974), (0.1322, 0.0011, 0.0087), "pale_wood", PLANK_TILT),
    slab((0, 0.0089, 0.1703), (0.0076, 0.1616, 0.0091), "red_wood", POST_TILT),
    slab((0, 0.0693, 0.0101), (0.0899, 0.0600, 0.0045), "red_wood", about((1, 0, 0), -0.13)),
    slab((0, -0.0643, 0.0126), (0.0900, 0.0600, 0.0045), "red_wood", about((1, 0, 0), 0.14)),
    block((-0.0900, -0.0930, 0.0021), (0.0900, 0.0930, 0.0111), "red_wood"),
)
RACK_SITES = (Site("top_region", (0, -0.08003, 0.21745), (0.10087, 0.02200, 0.00251), (0.8549119, -0.5187733, 0, 0)),)


def _hope(shape: Shape, mass: float, placing: Placing = SMALL) -> Thing:
    """A grocery: one body."""
    return Thing("stable_hope_objects", Body("object", shape, mass), placing)


def _scanned(shape: Shape, mass: float, sites: tuple[Site, ...] = ()) -> Thing:
    """A dish or the basket."""
    return Thing("stable_scanned_objects", Body("object", shape, mass, sites=sites))


def _turbosquid(shape: Shape, mass: float, sites: tuple[Site, ...] = ()) -> Thing:
    """A mug, book, bottle or holder."""
    return Thing("turbosquid_objects", Body("object", shape, mass, sites=sites))


#: Every thing by upstream's name of it; the masses are upstream's sums over collision geometry.
THINGS: dict[str, Thing] = {
    "alphabet_soup": _hope(SOUP.y_up(), 0.0259, Placing(0.04, 0.04, 0.025)),
    "bbq_sauce": _hope(BARBECUE, 0.0122, Placing(0.06, 0.06, 0.015)),
    "butter": _hope(BUTTER, 0.0052, Placing(0.02, 0.02, 0.02)),
    "chocolate_pudding": _hope(PUDDING, 0.0102),
    "cookies": _hope(COOKIES, 0.0096),
    "cream_cheese": _hope(CREAM_CHEESE, 0.0062, Placing(0.025, 0.025, 0.03)),
    "ketchup": _hope(KETCHUP.y_up(), 0.0232),
    "milk": _hope(MILK.y_up(), 0.0317, Placing(0.06, 0.04, 0.03)),
    "new_salad_dressing": Thing(
        "stable_hope_objects",
        # upstream hangs this bottle alone on an inner body; its misspelt name is part of the model
        Body(
            "object",
            children=(Body("sald_dressing_body", NEW_SALAD_BOTTLE.y_up(), 0.0218, pos=(0, 0.05, 0)),),
        ),
    ),
    "orange_juice": _hope(ORANGE_JUICE.y_up(), 0.0317),
    "salad_dressing": _hope(SALAD_BOTTLE.y_up(), 0.0218),
    "tomato_sauce": _hope(TOMATO.y_up(), 0.0266),
    "akita_black_bowl": Thing(  # 10 cm aside of its origin, as upstream has it before it is placed
        "stable_scanned_objects", Body("object", BLACK_BOWL, 0.0056, pos=(0, -0.1, 0))
    ),
    "basket": _scanned(BASKET, 0.1361, BASKET_SITES),
    "chefmate_8_frypan": _scanned(FRYPAN, 0.0502),
    "glazed_rim_porcelain_ramekin": _scanned(RAMEKIN, 0.0097),
    "plate": _scanned(PLATE, 0.0115),
    "white_bowl": _scanned(WHITE_BOWL, 0.0021),
    "black_book": _turbosquid(BLACK_BOOK, 0.0425),
    "desk_caddy": _turbosquid(CADDY, 0.2780, CADDY_SITES),
    "moka_pot": _turbosquid(MOKA_POT, 0.0682),
    "porcelain_mug": _turbosquid(PORCELAIN_MUG, 0.0165),
    "red_coffee_mug": _turbosquid(RED_MUG, 0.0294),
    "white_yellow_mug": _turbosquid(WHITE_YELLOW_MUG, 0.0309),
    "wine_bottle": _turbosquid(WINE_BOTTLE, 0.0154),
    "wine_rack": _turbosquid(RACK, 0.1527, RACK_SITES),
    "wooden_tray": _turbosquid(TRAY, 0.0572, TRAY_SITES),
    "wooden_two_layer_shelf": _turbosquid(SHELF, 0.2063, SHELF_SITES),
    "yellow_book": _turbosquid(YELLOW_BOOK, 0.0281),
}
