"""GR1 with arms and waist and Fourier hands, as MJCF from robosuite's own models."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import cache

from suites.robocasa_gr1.robosuite_import import quiet_robosuite

#: Position (m), quaternion (w, x, y, z) and vertical field of view (degrees) of the ego camera in the head's body
#: (upstream's camera_utils.py).
EGO_BODY, EGO_CAMERA = "robot0_head_pitch", {
    "name": "egoview", "mode": "fixed", "pos": "0.22982822 0 0.0905", "quat": "0.676 0.205 -0.205 -0.676", "fovy": "77",
}

#: Body whose position is the robot's base.
BASE = "robot0_base"

#: Sections of robosuite's MJCF that the robot's joints, hands and looks need.
SECTIONS = ("asset", "contact", "actuator", "sensor")


@cache
def robot_xml() -> str:
    """MJCF of the robot: legs and head without joints, no free joint, base in the world frame (as upstream builds it).
    """
    quiet_robosuite(draws=False)  # scenes are drawn by MuJoCo itself
    from robosuite.models.bases import robot_base_factory
    from robosuite.models.grippers import gripper_factory
    from robosuite.models.robots import GR1

    robot = GR1(idn=0)
    robot._remove_joint_actuation("leg")
    robot._remove_joint_actuation("head")
    robot._remove_free_joint()
    robot.add_base(base=robot_base_factory(robot.default_base, idn=0))
    for arm, hand in robot.default_gripper.items():
        robot.add_gripper(gripper_factory(hand, idn=f"0_{arm}"), robot.eef_name[arm])
    return robot.get_xml()


def add_robot(root: ET.Element) -> None:
    """Add the robot, its ego camera and its actuators to the MJCF `root`, yaw +90 degrees, base at the origin."""
    robot = ET.fromstring(robot_xml())
    for name in SECTIONS:
        section = root.find(name)
        if section is None:
            section = ET.SubElement(root, name)
        section.extend(child for child in robot.find(name) if child.get("type") != "skybox")
    base = next(body for body in robot.iter("body") if body.get("name") == BASE)
    base.set("pos", "0 0 0")
    base.set("quat", "0.70710678 0 0 0.70710678")
    head = next(body for body in base.iter("body") if body.get("name") == EGO_BODY)
    ET.SubElement(head, "camera", EGO_CAMERA)
    root.find("worldbody").append(base)
