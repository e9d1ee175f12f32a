"""RoboCasa-GR1 as data: the 24 tasks and the protocol of the DiT4DiT paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evalkit.specs import ActionSpec
from evalkit.suite import ProcessNeeds, Suite, Task

FOLDER = Path(__file__).parent

#: Control steps of an episode (36 s at 20 Hz) and episodes of a task (DiT4DiT's GR1 batch script).
MAX_STEPS, EPISODES_PER_TASK, CONTROL_HZ = 720, 50, 20.0

#: Size (height, width) of the ego camera's frame before cropping, and of the view a policy gets (upstream's
#: gymnasium_groot.py).
EGO_FRAME, VIEW = (800, 1280), (256, 256)

#: Size of the third-person view, for videos only.
SCENE_VIEW = (480, 640)

#: Put in front of every instruction by upstream's wrapper for a robot whose waist moves.
INSTRUCTION_PREFIX = "unlocked_waist: "

#: Groups of an action and of the state, with the same joints in the same order. Arms: shoulder pitch, roll, yaw, elbow
#: pitch, wrist yaw, roll, pitch. Hands: pinky, ring, middle, index, thumb bend, thumb rotation. Waist: yaw, pitch,
#: roll. This is the order of the DiT4DiT checkpoints; upstream's environment takes them by name.
GROUPS = {"left_arm": 7, "right_arm": 7, "left_hand": 6, "right_hand": 6, "waist": 3}

ACTION = ActionSpec(GROUPS, meaning="GR1 absolute joint targets, radians, 20 Hz; hands: 0 open to about 1.5 closed")

#: `reference`: seed 7 + k for episode k, the evalkit paper preset (the paper itself left its scenes unseeded).
#: `per_episode`: a seed of the episode's own, from the base seed.
SEED_POLICIES = ("reference", "per_episode")

#: Upstream's scenes: a rendering process takes 1.3 GB at first and 2.4 GB after a few resets, then 5 - 10 MB more with
#: each; the first task class built in a process changes the scenes of all later ones.
UPSTREAM = ProcessNeeds(memory_gb=2.5, resets=50, one_task=True)
BUILTIN = ProcessNeeds(memory_gb=1.5, resets=200)


@dataclass(frozen=True)
class Row:
    """One task. name: upstream's class; short: the row of the paper's table.

    Pick-and-place tasks have a source and a target container and name the distractor regions that are switched on
    (obj: a second object on the same source; src: an object on another source; tgt: another, empty target).
    Close tasks have a fixture and the category of the object that goes into it.
    """

    name: str
    short: str
    group: str
    source: str = ""
    target: str = ""
    distractors: tuple[str, ...] = ()
    fixture: str = ""
    category: str = ""

    @property
    def instruction(self) -> str:
        """The instruction with the object left open where it is drawn at reset."""
        if self.fixture:
            return close_instruction(self.category, self.fixture)
        return pick_instruction("{object}", self.source, self.target)


def close_instruction(category: str, fixture: str) -> str:
    """What a close task tells the policy."""
    thing = category.replace("_", " ")
    return f"{INSTRUCTION_PREFIX}pick up the {thing}, place it into the {fixture} and close the {fixture}"


def pick_instruction(category: str, source: str, target: str) -> str:
    """What a pick-and-place task tells the policy."""
    thing, start, goal = (name.replace("_", " ") for name in (category, source, target))
    return f"{INSTRUCTION_PREFIX}pick the {thing} from the {start} and place it in the {goal}"


def _close(category: str, fixture: str, thing: str) -> Row:
    short = f"{thing}To{fixture.title()}Close"
    return Row(f"PnP{short}", short, fixture.title(), fixture=fixture, category=category)


def _pick(source: str, target: str, *distractors: str) -> Row:
    start, goal = (container.replace("_", "").title() for container in (source, target))
    short = f"From{start}To{goal}"
    return Row(f"PosttrainPnPNovel{short}SplitA", short, "Novel", source=source, target=target,
               distractors=distractors)


#: In the order of the paper's table.
ROWS = (
    _close("bottled_water", "cabinet", "Bottle"),
    _close("can", "drawer", "Can"),
    _close("cup", "drawer", "Cup"),
    _close("milk", "microwave", "Milk"),
    _close("potato", "microwave", "Potato"),
    _close("wine", "cabinet", "Wine"),
    _pick("cutting_board", "basket", "src", "tgt"),
    _pick("cutting_board", "cardboard_box", "obj", "tgt"),
    _pick("cutting_board", "pan", "src"),
    _pick("cutting_board", "pot", "tgt"),
    _pick("cutting_board", "tiered_basket", "obj", "tgt"),
    _pick("placemat", "basket", "src"),
    _pick("placemat", "bowl", "obj", "src"),
    _pick("placemat", "plate", "obj"),
    _pick("placemat", "tiered_shelf", "obj", "src", "tgt"),
    _pick("plate", "bowl", "obj", "src"),
    _pick("plate", "cardboard_box", "obj"),
    _pick("plate", "pan", "obj"),
    _pick("plate", "plate"),
    _pick("tray", "cardboard_box"),
    _pick("tray", "plate", "tgt"),
    _pick("tray", "pot"),
    _pick("tray", "tiered_basket", "src", "tgt"),
    _pick("tray", "tiered_shelf", "obj", "src", "tgt"),
)


def make_suite(name: str) -> Suite:
    """The only suite of this folder."""
    tasks = tuple(Task(index, row.name, row.instruction, row.group, row.short) for index, row in enumerate(ROWS))
    return Suite(
        name=name, tasks=tasks, episodes_per_task=EPISODES_PER_TASK, max_steps=MAX_STEPS, wait_steps=0,
        control_hz=CONTROL_HZ, success_rule="chunk_end", views={"ego_view": (*VIEW, 3)},
        video_views={"scene": (*SCENE_VIEW, 3)}, state=GROUPS, action=ACTION, seed_policies=SEED_POLICIES,
        scenes={"upstream": UPSTREAM, "builtin": BUILTIN}, interpreter="robocasa_gr1",
        requirements=FOLDER / "requirements.txt", env="suites.robocasa_gr1.env:RoboCasaGR1Env",
        assets="suites.robocasa_gr1.assets:resolve", preflight="suites.robocasa_gr1.preflight:check",
    )
