"""Textures of rooms, tables and cabinets, under the names that upstream's styles use."""

from __future__ import annotations

from pathlib import Path

from suites.robocasa_gr1.standin.textures import (
    Painter,
    bricks,
    brushed,
    clouds,
    diamonds,
    flowers,
    generator,
    granite,
    marble,
    plain,
    planks,
    tiles,
    wood,
    write_png,
)

#: Pixels across.
SIZE = 256


def write_textures(assets: Path) -> None:
    """Write every picture of PICTURES below ``textures`` in the folder `assets`."""
    for name, paint in PICTURES.items():
        write_png(assets / "textures" / name, paint(generator(name), SIZE))


#: File below textures/ -> how it is painted; the name says what it shows. The names are those of the inventory.
PICTURES: dict[str, Painter] = {
    "bricks/red_bricks.png": bricks((158, 78, 62), (196, 188, 178)),
    "bricks/white_bricks_2.png": bricks((226, 222, 214), (198, 194, 188)),
    "ceramic.png": clouds((226, 224, 218), (214, 212, 206)),
    "flat/black.png": plain((22, 22, 24)),
    "flat/blue_gray.png": plain((104, 122, 138)),
    "flat/dark_blue.png": plain((38, 52, 88)),
    "flat/dark_gray.png": plain((66, 66, 68)),
    "flat/gray.png": plain((128, 128, 128)),
    "flat/light_gray.png": plain((184, 184, 182)),
    "flat/light_green.png": plain((158, 178, 146)),
    "flat/lighter_gray.png": plain((208, 208, 206)),
    "flat/white.png": plain((238, 238, 236)),
    "marble/dark_marble.png": marble((44, 44, 48), (156, 150, 146)),
    "marble/granite.png": granite((120, 112, 104), (48, 44, 42)),
    "marble/marble.png": marble((228, 226, 222), (150, 150, 152)),
    "marble/marble_2.png": marble((234, 232, 230), (186, 180, 172)),
    "marble/marble_3.png": marble((206, 206, 204), (120, 122, 126)),
    "marble/marble_4.png": marble((238, 236, 232), (168, 170, 174)),
    "marble/marble_5.png": marble((216, 220, 224), (128, 136, 148)),
    "metals/brass.png": brushed((186, 150, 82)),
    "metals/bright_metal.png": brushed((196, 198, 202)),
    "tiles/black_marble_tiles.png": tiles((40, 40, 44), (20, 20, 20), 4, (130, 128, 126)),
    "tiles/concrete_tiles.png": tiles((156, 154, 150), (118, 116, 112), 2),
    "tiles/diamond_marble_parquet.png": diamonds((220, 216, 210), (146, 138, 130)),
    "tiles/diamond_tiles.png": diamonds((206, 192, 170), (178, 158, 132)),
    "tiles/diamond_white_tiles.png": diamonds((238, 238, 236), (214, 214, 212)),
    "tiles/flower_ceramic.png": flowers((228, 226, 218), (88, 116, 152)),
    "tiles/orange_square_tiles.png": tiles((202, 130, 84), (226, 214, 196), 5),
    "tiles/orange_tiles.png": tiles((190, 112, 70), (150, 92, 62), 4),
    "tiles/varied_marble_tiles.png": tiles((212, 206, 196), (168, 164, 158), 4, (150, 140, 128)),
    "tiles/white_square_tiles.png": tiles((236, 236, 234), (190, 190, 188), 5),
    "tiles/white_tiles.png": tiles((240, 240, 238), (204, 204, 202), 8),
    "wood/dark_wood_planks.png": planks((96, 66, 46), (58, 38, 26)),
    "wood/dark_wood_planks_2.png": planks((84, 60, 46), (48, 34, 26)),
    "wood/gray_wood_grain.png": wood((158, 150, 140), (114, 106, 98)),
    "wood/gray_wood_planks.png": planks((150, 144, 136), (104, 98, 92)),
    "wood/greenheart_wood_grain.png": wood((126, 108, 68), (84, 70, 42)),
    "wood/light_wood_planks.png": planks((214, 184, 142), (178, 144, 102)),
    "wood/light_wood_planks_2.png": planks((222, 196, 158), (190, 158, 118)),
    "wood/light_wood_planks_long.png": planks((208, 178, 136), (172, 138, 98), 10),
    "wood/walnut_wood_grain.png": wood((108, 74, 52), (66, 44, 30)),
    "wood/warm_wood_grain_2.png": wood((166, 112, 66), (120, 76, 42)),
    "wood/warm_wood_planks.png": planks((172, 118, 72), (124, 80, 46)),
    "wood/wood_planks.png": planks((160, 122, 84), (112, 82, 54)),
    "wood/wood_planks_2.png": planks((150, 108, 70), (104, 72, 44)),
    "wood/wood_planks_3.png": planks((140, 104, 72), (96, 68, 46), 8),
    "wood/wood_planks_wall.png": planks((178, 140, 100), (132, 98, 66), 8),
}
