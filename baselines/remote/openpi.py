"""openpi's websocket server (Physical-Intelligence/openpi 15a9616, scripts/serve_policy.py)."""

from __future__ import annotations

import numpy as np

from baselines.remote.client import Contract, WebsocketClient, is_libero, libero_state
from evalkit.wire import take

#: Pixels a side of both images and steps executed a query (openpi's examples/libero/main.py).
SIDE, EXECUTED = 224, 5


class Openpi(WebsocketClient):
    """LIBERO checkpoints such as pi05_libero. Actions come un-normalised; their number is the checkpoint's."""

    family = "openpi"
    title = "openpi"
    start = "uv run scripts/serve_policy.py --env LIBERO --port 8000"
    view_size = (SIDE, SIDE)

    def make_contract(self):
        if not is_libero(self.suite):
            raise self.no_form("libero_*")
        return Contract(("agentview", "wrist"), tuple(self.suite.state), None, EXECUTED)

    def infer(self, observations):
        return [take(self.exchange(libero_request(observation)), "actions", np.ndarray)
                for observation in observations]


def libero_request(observation) -> dict:
    """The request of openpi's LIBERO example. The suite has already rotated the views."""
    return {
        "observation/image": resize_with_pad(observation.views["agentview"]),
        "observation/wrist_image": resize_with_pad(observation.views["wrist"]),
        "observation/state": libero_state(observation.state),
        "prompt": observation.instruction,
    }


def resize_with_pad(image: np.ndarray, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """(H, W, 3) uint8 fitted into height x width by Pillow's bilinear filter, black around it where the aspect
    differs (openpi-client's image_tools.py)."""
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    ratio = max(image.shape[1] / width, image.shape[0] / height)
    size = int(image.shape[1] / ratio), int(image.shape[0] / ratio)
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    framed = np.zeros((height, width, 3), np.uint8)
    framed[top:top + size[1], left:left + size[0]] = resized
    return framed
