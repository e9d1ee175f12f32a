"""Observers: videos that a browser plays, actions that replay."""

from __future__ import annotations

import imageio.v2 as imageio
import numpy as np
import pytest

from baselines.random import Random
from evalkit.observers import ActionRecorder, Observer, VideoRecorder
from evalkit.registry import load_suite
from evalkit.rollout import run_episode
from suites.toy.suite import ToyEnv
from tests.helpers import FAR, UNREACHABLE, Drive, toy_env, toy_episode


def watch(observer: Observer, steps: int, policy=None, env=None) -> None:
    run_episode(env or toy_env(UNREACHABLE), policy or Drive([1.0] * 40, 8), toy_episode(UNREACHABLE, max_steps=steps),
                [observer])


@pytest.mark.parametrize("steps, count", [(1, 1), (2, 2), (7, 4), (40, 21)])
def test_a_frame_every_second_step(steps, count):
    """Frames are those of the reset and of each even step, whatever the policy looks at."""
    video = VideoRecorder(20.0)
    watch(video, steps, Drive([1.0] * 40, 3, views=("top",)))
    assert len(video.frames) == count
    env = toy_env(UNREACHABLE)
    env.reset(toy_episode(UNREACHABLE))
    pictures = [env.observe().views["top"]]
    for action in Drive([1.0] * 40, 40).chunk(env.observe())[:steps]:
        env.step(action, look=True)
        pictures.append(env.observe().views["top"])
    assert all(np.array_equal(frame, picture) for frame, picture in zip(video.frames, pictures[::2]))


def test_views_stand_side_by_side():
    """All views of a step make one frame."""
    class TwoViews(ToyEnv):
        def observe(self):
            seen = super().observe()
            seen.views.update({"second": seen.views["top"] + 1} if seen.views else {})
            return seen

    video = VideoRecorder(20.0)
    watch(video, 2, env=toy_env(UNREACHABLE, kind=TwoViews))
    assert [frame.shape for frame in video.frames] == [(32, 64, 3)] * 2
    assert np.array_equal(video.frames[1][:, 32:], video.frames[1][:, :32] + 1)


def test_a_video_of_chosen_views():
    """Only the views asked for are in the frame; a lower one stands in the middle of black."""
    class HighView(ToyEnv):
        def observe(self):
            seen = super().observe()
            seen.views.update({"high": np.full((48, 40, 3), 9, np.uint8)} if seen.views else {})
            return seen

    alone, both = VideoRecorder(20.0, ["high"]), VideoRecorder(20.0, ["high", "top"])
    for video in (alone, both):
        watch(video, 2, env=toy_env(UNREACHABLE, kind=HighView))
    assert [frame.shape for frame in alone.frames] == [(48, 40, 3)] * 2
    assert [frame.shape for frame in both.frames] == [(48, 72, 3)] * 2
    assert not both.frames[0][:8, 40:].any() and not both.frames[0][40:, 40:].any() and both.frames[0][8:40, 40:].any()


def test_video_plays_in_a_browser(tmp_path):
    """H.264, yuv420p, index before the data, the right size and rate, and every frame that was kept."""
    video = VideoRecorder(20.0)
    watch(video, 40)
    path = tmp_path / "video.mp4"
    path.write_bytes(video.encode())
    with imageio.get_reader(path) as reader:
        about = reader.get_meta_data()
        frames = list(reader.iter_data())
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p")
    assert about["size"] == (32, 32) and about["fps"] == 10
    assert len(frames) == 21
    content = path.read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")


def test_video_shows_what_was_seen(tmp_path):
    """Decoded frames are the kept ones, in order, up to the codec's loss."""
    video = VideoRecorder(20.0)
    for level in (20, 120, 220, 60):
        video.frames.append(np.full((64, 48, 3), level, np.uint8))
    path = tmp_path / "video.mp4"
    path.write_bytes(video.encode())
    with imageio.get_reader(path) as reader:
        levels = [float(frame.mean()) for frame in reader.iter_data()]
    assert levels == pytest.approx([20, 120, 220, 60], abs=6)


def test_one_frame_is_a_video(tmp_path):
    """An episode of a single step has a video too."""
    video = VideoRecorder(20.0)
    watch(video, 1)
    path = tmp_path / "video.mp4"
    path.write_bytes(video.encode())
    with imageio.get_reader(path) as reader:
        assert len(list(reader.iter_data())) == 1


def test_recorded_actions_replay_bit_for_bit():
    """Recorded float32 actions lead a fresh environment to the very same states."""
    recorder, episode = ActionRecorder(), toy_episode(FAR)
    record = run_episode(toy_env(FAR), Random(load_suite("toy"), chunk=7), episode, [recorder])
    actions = recorder.array()
    assert actions.shape == (record.steps, 2) and actions.dtype == np.float32
    env = toy_env(FAR)
    env.reset(episode)
    for action in actions:
        env.step(action, look=False)
    assert env.state_sha() == record.final_sha


def test_recorded_actions_are_copies():
    """A policy may reuse its buffer."""
    class Reuses(Drive):
        buffer = np.zeros((1, 2))

        def act(self, observations):
            self.buffer += 0.25
            return [self.buffer]

    recorder = ActionRecorder()
    watch(recorder, 3, Reuses([]))
    assert recorder.array().tolist() == [[0.25, 0.25], [0.5, 0.5], [0.75, 0.75]]


def test_only_executed_actions_are_recorded():
    """What a chunk holds beyond the executed steps leaves no trace."""
    recorder = ActionRecorder()
    watch(recorder, 5, Drive([0.1, 0.2, 0.3, 0.4, 0.5], chunk=4, executed=2))
    assert np.linalg.norm(recorder.array(), axis=1).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
