"""Bodies, joints and sites of the stand-ins, and their writing as MJCF text that upstream's loaders read.

The writing is deterministic: elements come in the order given, numbers are rounded to a micrometre.
"""

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Iterable

from suites.libero.standin.looks import LOOKS, Look
from suites.libero.standin.shapes import IDENTITY, Geom, Mesh, Shape, Vec


@dataclasses.dataclass(frozen=True)
class Surface:
    """Contact attributes of solid geoms, as MJCF attributes."""

    attributes: tuple[tuple[str, str], ...] = ()


# source: contact attributes of upstream's collision geometry: all but / the microwave / the stove's plate
GRIPPY = Surface((("solimp", "0.998 0.998 0.001"), ("solref", "0.001 1"), ("friction", "0.95 0.3 0.1")))
SHELL = Surface(
    (
        ("contype", "0"),
        ("conaffinity", "1"),
        ("margin", "0.001"),
        ("solimp", "0.8 0.9 0.01"),
        ("solref", "0.02 1"),
    )
)
DEFAULT = Surface()
NOTHING = Shape()
DENSITY = 100.0  # kg / m^3, of bodies whose mass is not given


@dataclasses.dataclass(frozen=True)
class Site:
    """A named frame or region; `size` holds half sizes. Invisible unless `rgba` says otherwise."""

    name: str
    pos: Vec
    size: Vec
    quat: Vec = IDENTITY
    kind: str = "box"
    rgba: Vec = (0.8, 0.8, 0.8, 0.0)


@dataclasses.dataclass(frozen=True)
class Joint:
    """A limited hinge (radians) or slide (metres) through the body's origin."""

    name: str
    kind: str
    axis: Vec
    range: Vec
    damping: float


@dataclasses.dataclass(frozen=True)
class Body:
    """A body: shape, optional mass (kg, spread over the solid geoms by volume), joint, sites, children."""

    name: str
    shape: Shape = NOTHING
    mass: float | None = None
    surface: Surface = GRIPPY
    sites: tuple[Site, ...] = ()
    joint: Joint | None = None
    inertia: tuple[float, float] | None = None  # explicit (mass kg, moment of inertia kg m^2 about each axis)
    children: tuple["Body", ...] = ()
    pos: Vec = (0.0, 0.0, 0.0)
    quat: Vec = IDENTITY


@dataclasses.dataclass(frozen=True)
class Placing:
    """What upstream's sampler places an object by: half heights and radius (m), stored as three sites."""

    bottom: float
    top: float
    radius: float
    size: float = 0.005


def number(value: float) -> str:
    """A number as text, rounded to 1e-6, without a negative zero."""
    return format(round(float(value), 6) + 0.0, ".9g")


def numbers(values: Iterable[float]) -> str:
    """Numbers separated by blanks."""
    return " ".join(number(v) for v in values)


def object_xml(name: str, body: Body, placing: Placing, textures: str) -> str:
    """The file of one object or fixture; `textures` is the relative path from it to the textures folder."""
    root = ET.Element("mujoco", model=name)
    # as in robosuite's base file, which these files end up in: what is drawn weighs nothing
    ET.SubElement(root, "compiler", angle="radian", inertiagrouprange="0 0")
    asset = ET.SubElement(root, "asset")
    outer = ET.SubElement(ET.SubElement(root, "worldbody"), "body")
    add_body(outer, body, asset, textures)
    for site, pos in (
        ("bottom_site", (0, 0, -placing.bottom)),
        ("top_site", (0, 0, placing.top)),
        ("horizontal_radius_site", (placing.radius, placing.radius, 0)),
    ):
        ET.SubElement(outer, "site", name=site, pos=numbers(pos), size=number(placing.size), rgba="0 0 0 0")
    return text(root)


def text(root: ET.Element) -> str:
    """The indented text of a file."""
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def add_body(parent: ET.Element, body: Body, asset: ET.Element, textures: str) -> ET.Element:
    """Append a body with everything in it; materials, textures and meshes go to `asset`."""
    element = ET.SubElement(parent, "body", name=body.name, pos=numbers(body.pos), quat=numbers(body.quat))
    if body.inertia:
        mass, moment = body.inertia
        ET.SubElement(element, "inertial", pos="0 0 0", mass=number(mass), diaginertia=numbers([moment] * 3))
    if body.joint:
        j = body.joint
        ET.SubElement(
            element, "joint", name=j.name, type=j.kind, axis=numbers(j.axis), limited="true",
            range=numbers(j.range), damping=number(j.damping),
        )  # fmt: skip
    for site in body.sites:
        ET.SubElement(
            element, "site", name=site.name, type=site.kind, pos=numbers(site.pos), quat=numbers(site.quat),
            size=numbers(site.size), rgba=numbers(site.rgba),
        )  # fmt: skip
    density = body.mass / volume(body.shape) if body.mass else DENSITY
    for geom in body.shape.solid:
        attributes = {"group": "0", "rgba": "0.8 0.8 0.8 0.3", "density": number(density)}
        ET.SubElement(element, "geom", **_geom(geom), **attributes, **dict(body.surface.attributes))
    add_drawn(element, body.shape.drawn, asset, textures)
    for child in body.children:
        add_body(element, child, asset, textures)
    return element


def add_drawn(parent: ET.Element, geoms: Iterable[Geom], asset: ET.Element, textures: str) -> None:
    """Append geoms that are seen and never touched."""
    for geom in geoms:
        attributes = {
            "group": "1",
            "contype": "0",
            "conaffinity": "0",
            "material": material(geom.look, asset, textures),
        }
        if geom.mesh:
            attributes["mesh"] = _mesh(geom.mesh, LOOKS[geom.look].mapping == "2d", asset)
        ET.SubElement(parent, "geom", **_geom(geom), **attributes)


def material(look: str, asset: ET.Element, textures: str) -> str:
    """Name of the look's material, which is added to `asset` (with its texture) when it is not yet there."""
    if asset.find(f"./material[@name='{look}']") is None:
        add_material(look, LOOKS[look], asset, textures)
    return look


def add_material(name: str, look: Look, asset: ET.Element, textures: str) -> None:
    """Append a material and, if the look has one, its texture `tex-<name>`."""
    shown = {"rgba": numbers((*look.rgb, 1)), "specular": number(look.shine), "shininess": number(look.shine)}
    if look.texture:
        file = f"{textures}/{look.texture}"
        ET.SubElement(asset, "texture", name=f"tex-{name}", type=look.mapping, file=file)
        uniform = "true" if look.uniform else "false"
        shown |= {"texture": f"tex-{name}", "texrepeat": numbers(look.repeat), "texuniform": uniform}
    ET.SubElement(asset, "material", name=name, reflectance="0", **shown)


def volume(shape: Shape) -> float:
    """Sum of the volumes (m^3) of the solid geoms, overlaps counted twice, as MuJoCo counts mass."""
    total = 0.0
    for geom in shape.solid:
        if geom.kind != "box":
            raise ValueError(f"solid geoms are boxes; got a {geom.kind}: add its volume to volume() first")
        total += 8 * geom.size[0] * geom.size[1] * geom.size[2]
    return total


def _geom(geom: Geom) -> dict[str, str]:
    """Attributes that every geom has."""
    attributes = {"type": geom.kind, "pos": numbers(geom.pos), "quat": numbers(geom.quat)}
    return attributes | ({"size": numbers(geom.size)} if geom.size else {})


def _mesh(mesh: Mesh, flat: bool, asset: ET.Element) -> str:
    """Name of a mesh that is added to `asset`; `flat`: its texture lies on xy, one repeat a metre."""
    name = f"mesh{len(asset.findall('mesh'))}"
    vertices = numbers(c for v in mesh.vertices for c in v)
    faces = " ".join(str(i) for f in mesh.faces for i in f)
    extra = {"texcoord": numbers(c for v in mesh.vertices for c in v[:2])} if flat else {}
    ET.SubElement(asset, "mesh", name=name, vertex=vertices, face=faces, **extra)
    return name
