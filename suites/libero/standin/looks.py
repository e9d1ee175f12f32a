"""Colours and textures by name: what `Geom.look` refers to. Things are told apart at 256 x 256 pixels."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Look:
    """A MuJoCo material: colour, shine in 0..1, and optionally a file in textures/.

    `mapping` is `cube` (the picture on every side) or `2d`: laid flat on xy, on meshes once a metre.
    """

    rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shine: float = 0.2
    texture: str | None = None
    mapping: str = "cube"
    repeat: tuple[float, float] = (1.0, 1.0)
    uniform: bool = False


LOOKS: dict[str, Look] = {
    # plain colours
    "white": Look((0.93, 0.93, 0.91)),
    "porcelain": Look((0.95, 0.95, 0.93), 0.6),
    "cream": Look((0.93, 0.88, 0.74)),
    "black": Look((0.06, 0.06, 0.06), 0.4),
    "soft_black": Look((0.10, 0.10, 0.10), 0.1),
    "black_glaze": Look((0.13, 0.13, 0.14), 0.6),
    "grey_glaze": Look((0.42, 0.42, 0.44), 0.4),
    "pan_grey": Look((0.22, 0.23, 0.24), 0.5),
    "metal": Look((0.72, 0.73, 0.75), 0.9),
    "dark_metal": Look((0.38, 0.39, 0.41), 0.8),
    "appliance": Look((0.17, 0.17, 0.18), 0.5),
    "glass": Look((0.16, 0.18, 0.20), 0.9),
    "red": Look((0.78, 0.09, 0.07), 0.4),
    "dark_red": Look((0.55, 0.06, 0.06), 0.4),
    "ketchup_red": Look((0.80, 0.13, 0.05), 0.5),
    "orange": Look((0.96, 0.52, 0.06), 0.3),
    "amber": Look((0.80, 0.47, 0.12), 0.4),
    "yellow": Look((0.95, 0.80, 0.16), 0.3),
    "butter_yellow": Look((0.97, 0.88, 0.45), 0.2),
    "green": Look((0.12, 0.50, 0.18), 0.4),
    "leaf_green": Look((0.20, 0.42, 0.13), 0.1),
    "bottle_green": Look((0.05, 0.13, 0.07), 0.9),
    "pale_green": Look((0.74, 0.83, 0.52), 0.4),
    "blue": Look((0.13, 0.28, 0.68), 0.3),
    "light_blue": Look((0.45, 0.65, 0.92), 0.3),
    "chocolate": Look((0.27, 0.14, 0.08), 0.3),
    "barbecue_brown": Look((0.24, 0.09, 0.05), 0.5),
    "wicker": Look((0.63, 0.52, 0.36), 0.05),
    "cloth": Look((0.84, 0.83, 0.80), 0.0),
    "page": Look((0.92, 0.90, 0.82), 0.0),
    "caddy_brown": Look((0.22, 0.14, 0.13), 0.2),
    "cupboard": Look((0.19, 0.19, 0.14), 0.2),
    "wall_unit": Look((0.66, 0.66, 0.66), 0.1),
    "screen": Look((0.03, 0.03, 0.04), 0.8),
    "burner_red": Look((0.90, 0.05, 0.05), 0.2),
    "knob_black": Look((0.10, 0.10, 0.10), 0.3),
    # wood, from textures/
    "table_wood": Look(texture="table_wood.png", shine=0.1),
    "pale_wood": Look(texture="pale_wood.png", shine=0.1),
    "tray_wood": Look(texture="tray_wood.png", shine=0.1),
    "red_wood": Look(texture="red_wood.png", shine=0.2),
    "black_wood": Look(texture="black_wood.png", shine=0.2),
    "white_wood": Look(texture="white_wood.png", shine=0.1),
    "walnut": Look(texture="walnut.png", shine=0.2),
    "walnut_top": Look(texture="walnut.png", shine=0.2, mapping="2d"),
    "desk_wood": Look(texture="desk_wood.png", shine=0.1),
    "marble": Look(texture="black_marble.png", shine=0.4),
    "painting": Look(texture="painting.png", shine=0.0),
    "weave": Look(texture="weave.png", shine=0.0),
}
