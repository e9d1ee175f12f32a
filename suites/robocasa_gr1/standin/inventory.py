"""What the 24 tasks load from upstream's asset tree beyond what upstream's repository holds, as data.

Found by building upstream's tasks: all 12 styles with the layouts 0, 2, 4 and 5 that the tasks use, and the object
groups that the tasks draw from. Loads nothing heavy: the driver checks downloads with it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Object registries that the tasks draw from (environments/tabletop/tabletop.py, obj_registries).
REGISTRIES = ("objaverse", "sketchfab", "lightwheel")

#: Category -> registry -> scale by which upstream multiplies its models there (models/objects/kitchen_objects.py).
SCALES: dict[str, dict[str, float]] = {
    # what the 18 pick-and-place tasks move (tabletop_24dc.py, novel_obj_cats)
    "sweet_potato": {"objaverse": 1.0},
    "bell_pepper": {"objaverse": 0.75},
    "lemon": {"objaverse": 1.0},
    "croissant": {"objaverse": 0.9},
    "pear": {"objaverse": 1.0},
    "squash": {"objaverse": 1.0},
    "cupcake": {"objaverse": 1.0},
    "can": {"objaverse": 1.0},
    "tomato": {"objaverse": 1.0},
    "eggplant": {"objaverse": 0.95},
    # what the six close tasks move, beside can
    "cup": {"objaverse": 1.0},
    "potato": {"objaverse": 1.0},
    "milk": {"objaverse": 1.0},
    "bottled_water": {"objaverse": 1.1},
    "wine": {"objaverse": 1.6},
    # the rest of the group "vegetable", distractors of the close tasks
    "avocado": {"objaverse": 0.9},
    "broccoli": {"objaverse": 1.25},
    "carrot": {"objaverse": 1.0},
    "corn": {"objaverse": 1.05},
    "cucumber": {"objaverse": 1.0},
    "garlic": {"objaverse": 1.1},
    "lime": {"objaverse": 1.0},
    "mushroom": {"objaverse": 1.2},
    "onion": {"objaverse": 1.0},
    # containers
    "cutting_board": {"objaverse": 1.35},
    "placemat": {"sketchfab": 1.0, "lightwheel": 0.7},
    "tray": {"objaverse": 1.8, "lightwheel": 1.0},
    "plate": {"objaverse": 1.35},
    "bowl": {"objaverse": 2.0},
    "pan": {"objaverse": 1.7},
    "pot": {"objaverse": 1.7, "lightwheel": 1.0},
    "basket": {"sketchfab": 0.7, "lightwheel": 1.0},
    "cardboard_box": {"lightwheel": 1.0},
    "tiered_basket": {"sketchfab": 1.0, "lightwheel": 1.0},
    "tiered_shelf": {"lightwheel": 1.0},
    # decoration at the back edge of the table
    "chips": {"objaverse": 1.0},
    "cereal": {"objaverse": 1.0},
    "candle": {"objaverse": 1.0},
    "book": {"sketchfab": 1.0},
}

#: Objaverse's pots lie among its pans: these four (kitchen_objects.py excludes all others for pot, these for pan).
POTS = ("pan_0", "pan_12", "pan_17", "pan_22")

#: Absent from upstream's own release (its issues 17 and 26); upstream leaves the decoration out then.
UNRELEASED = (("sketchfab", "book"),)

#: Appliances and accessories that the styles name, below fixtures/ (kitchen_styles/, fixture_registry/).
FIXTURES = (
    "microwaves/gray", "microwaves/hamilton_beach", "microwaves/pack_1", "microwaves/standard",
    "toasters/basic_popup", "toasters/basic_popup_2", "toasters/boxy", "toasters/fancy", "toasters/vintage",
    "accessories/paper_towel_holders/holder_2", "accessories/paper_towel_holders/holder_4", "accessories/plants/aloe",
)

#: Textures of rooms, tables and cabinets in the 12 styles, below textures/.
TEXTURES = (
    "bricks/red_bricks.png", "bricks/white_bricks_2.png", "ceramic.png", "flat/black.png", "flat/blue_gray.png",
    "flat/dark_blue.png", "flat/dark_gray.png", "flat/gray.png", "flat/light_gray.png", "flat/light_green.png",
    "flat/lighter_gray.png", "flat/white.png", "marble/dark_marble.png", "marble/granite.png", "marble/marble.png",
    "marble/marble_2.png", "marble/marble_3.png", "marble/marble_4.png", "marble/marble_5.png", "metals/brass.png",
    "metals/bright_metal.png", "tiles/black_marble_tiles.png", "tiles/concrete_tiles.png",
    "tiles/diamond_marble_parquet.png", "tiles/diamond_tiles.png", "tiles/diamond_white_tiles.png",
    "tiles/flower_ceramic.png", "tiles/orange_square_tiles.png", "tiles/orange_tiles.png",
    "tiles/varied_marble_tiles.png", "tiles/white_square_tiles.png", "tiles/white_tiles.png",
    "wood/dark_wood_planks.png", "wood/dark_wood_planks_2.png", "wood/gray_wood_grain.png",
    "wood/gray_wood_planks.png", "wood/greenheart_wood_grain.png", "wood/light_wood_planks.png",
    "wood/light_wood_planks_2.png", "wood/light_wood_planks_long.png", "wood/walnut_wood_grain.png",
    "wood/warm_wood_grain_2.png", "wood/warm_wood_planks.png", "wood/wood_planks.png", "wood/wood_planks_2.png",
    "wood/wood_planks_3.png", "wood/wood_planks_wall.png",
)


@dataclass(frozen=True)
class Shelf:
    """Where the models of one category in one registry lie: a folder below objects/.

    names: the models in it that count; empty for all but `others`.
    """

    registry: str
    category: str
    folder: str
    names: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def models(self, assets: Path) -> list[Path]:
        """The model.xml files of this category below `assets`, sorted."""
        found = sorted((assets / "objects" / self.folder).glob("**/model.xml"))
        return [path for path in found if path.parent.name not in self.others
                and (not self.names or path.parent.name in self.names)]

    @property
    def absence(self) -> str:
        """In words: there is no model."""
        which = f" ({', '.join(self.names)})" if self.names else ""
        return f"objects/{self.folder}: no model of {self.category}{which}"


def shelves() -> Iterator[Shelf]:
    """Every category in every registry that the tasks draw from."""
    for category, scales in SCALES.items():
        for registry in scales:
            if (category, registry) == ("pot", "objaverse"):
                yield Shelf(registry, category, "objaverse/pan", names=POTS)
            else:
                yield Shelf(registry, category, f"{registry}/{category}", others=POTS if category == "pan" else ())


def has_any(assets: Path) -> bool:
    """Whether `assets` holds anything that upstream's bare repository does not."""
    return any((assets / folder).is_dir() for folder in ("textures", *(f"objects/{name}" for name in REGISTRIES)))


def missing(assets: Path) -> list[str]:
    """What the tasks need and `assets` (the folder with objects/, textures/, fixtures/) lacks, in words.

    A category without a model in any registry is one line, and so are all broken models of a category and registry.
    """
    gone = {shelf.category for shelf in empty(assets)} - {shelf.category for shelf in shelves() if shelf.models(assets)}
    lines = [shelf.absence for shelf in empty(assets) if shelf.category in gone]
    for shelf in shelves():
        lines += _broken(assets, shelf.models(assets))
    lines += [f"textures/{name}" for name in TEXTURES if not (assets / "textures" / name).is_file()]
    for name in FIXTURES:
        lines += _broken(assets, [assets / "fixtures" / name / "model.xml"])
    return lines


def empty(assets: Path) -> list[Shelf]:
    """Categories and registries without a model, those that upstream never released left out.

    Where another registry has the category, upstream runs, and draws from that alone.
    """
    return [shelf for shelf in shelves()
            if (shelf.registry, shelf.category) not in UNRELEASED and not shelf.models(assets)]


def _broken(assets: Path, models: list[Path]) -> list[str]:
    """One line on the first model that lacks a file, with the number of further ones."""
    broken = [(model, lacks) for model in models if (lacks := _lacks(model))]
    if not broken:
        return []
    model, lacks = broken[0]
    more = f" (and {len(broken) - 1} more like it)" if len(broken) > 1 else ""
    return [f"{model.relative_to(assets)} lacks {lacks}{more}"]


def _lacks(model: Path) -> str:
    """What keeps `model` from loading, "" if nothing: an unreadable file, or the first mesh or texture not there."""
    if not model.is_file():
        return "itself"
    try:
        root = ElementTree.parse(model).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two: encodings that are none
        return f"a readable XML ({error})"
    named = [element.get("file") for element in root.iter() if element.tag in ("mesh", "texture")]
    return next((name for name in named if name and not (model.parent / name).is_file()), "")
