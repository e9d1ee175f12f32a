"""Stand-in assets for RoboCasa-GR1: our own objects, textures and appliances, on which upstream's task code runs.

    python -m suites.robocasa_gr1.standin CHECKOUT_COPY

They let the 24 tasks run where upstream's assets cannot be had. Upstream's repository itself brings the scenes, the
collision boxes, doors and joints of all appliances, and the cabinets; this package adds what it does not bring:
object models, textures, and what appliances look like. Shapes, sizes, masses and pictures are plausible for their
category and nothing more: results made with them are never comparable with published numbers. All is made by the code
in this folder, with numpy and Pillow alone; importing the package loads neither.
"""

from pathlib import Path

#: Raise it whenever a generated file changes: it tells results made with different stand-ins apart.
VERSION = "1"

#: Left in the asset tree, so that nobody takes it for upstream's.
MARK = "STAND_IN.txt"

#: Where upstream's package looks for assets, relative to the checkout.
ASSETS = Path("robocasa/models/assets")


def generate(checkout: Path, categories: tuple[str, ...] | None = None) -> None:
    """Write the stand-ins into `checkout`, a copy of upstream's repository without assets.

    The same version writes the same bytes every time. categories: object categories to write, None for all that the
    24 tasks draw from. Raises FileExistsError if the checkout has objects or textures already, FileNotFoundError if
    it is no checkout.
    """
    from suites.robocasa_gr1.standin.fixtures import write_fixtures
    from suites.robocasa_gr1.standin.inventory import REGISTRIES
    from suites.robocasa_gr1.standin.mjcf import write_objects
    from suites.robocasa_gr1.standin.rooms import write_textures

    assets = Path(checkout) / ASSETS
    if not (assets / "fixtures").is_dir():
        raise FileNotFoundError(f"{checkout} is not a checkout of robocasa-gr1-tabletop-tasks: no {ASSETS}/fixtures")
    for folder in ("textures", *(f"objects/{registry}" for registry in REGISTRIES)):
        if (assets / folder).exists():
            raise FileExistsError(f"{assets / folder} is there already: give a copy of upstream's bare repository")
    write_textures(assets)
    write_fixtures(assets / "fixtures")
    write_objects(assets / "objects", categories)
    (assets / MARK).write_text(f"Stand-in assets made by evalkit (version {VERSION}); not upstream's. Results made "
                               "with them are not comparable with published ones.\n", encoding="utf-8")
