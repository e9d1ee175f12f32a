"""Observers watch a rollout without changing it: video, recorded actions."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evalkit.suite import Observation

#: A video shows every second control step (10 fps at 20 Hz), as the GR1 release does; LIBERO's shows every step.
FRAME_EVERY = 2


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images (H, W, 3) next to each other, lower ones with black above and below."""
    tallest = max(len(image) for image in images)
    padded = [np.pad(image, (((tallest - len(image)) // 2, (tallest - len(image) + 1) // 2), (0, 0), (0, 0)))
              for image in images]
    return np.concatenate(padded, axis=1)


class Observer:
    """Base: wants nothing, keeps nothing."""

    def wants_frame(self, step: int) -> bool:
        """Whether the observation after policy step `step` (0: the reset) must be looked at."""
        return False

    def on_reset(self, observation: Observation) -> None:
        """The first observation of the episode."""

    def on_step(self, action: np.ndarray, observation: Observation) -> None:
        """After each step; `observation.views` is empty unless the step was looked at."""


class ActionRecorder(Observer):
    """Keeps the actions that were executed."""

    def __init__(self) -> None:
        self.actions: list[np.ndarray] = []

    def on_step(self, action: np.ndarray, observation: Observation) -> None:
        self.actions.append(np.array(action, dtype=np.float32))

    def array(self) -> np.ndarray:
        """(steps, D) float32; float32 is what policies send, and it replays bit for bit."""
        return np.array(self.actions, dtype=np.float32)


class VideoRecorder(Observer):
    """Keeps a frame every `FRAME_EVERY` steps: `views` side by side, or all of the observation's."""

    def __init__(self, control_hz: float, views: Sequence[str] | None = None) -> None:
        self.frames: list[np.ndarray] = []
        self.views = views
        self.fps = control_hz / FRAME_EVERY

    def wants_frame(self, step: int) -> bool:
        return step % FRAME_EVERY == 0

    def on_reset(self, observation: Observation) -> None:
        self._keep(observation)

    def on_step(self, action: np.ndarray, observation: Observation) -> None:
        if self.wants_frame(observation.step):
            self._keep(observation)

    def _keep(self, observation: Observation) -> None:
        self.frames.append(side_by_side([observation.views[name] for name in self.views or observation.views]))

    def encode(self) -> bytes:
        """The video as H.264 mp4 (yuv420p, faststart), which browsers play."""
        import imageio.v2 as imageio

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.mp4"
            imageio.mimsave(path, self.frames, fps=self.fps, codec="libx264", pixelformat="yuv420p",
                            macro_block_size=2, ffmpeg_params=["-crf", "22", "-movflags", "+faststart"],
                            ffmpeg_log_level="error")
            return path.read_bytes()
