"""The policies: one line each. `evalkit` finds them here and nowhere else."""

POLICIES = {
    "scripted": "baselines.scripted:Scripted",
    "random": "baselines.random:Random",
    "noop": "baselines.noop:Noop",
    "replay": "baselines.replay:Replay",
    "dit4dit": "baselines.dit4dit:DiT4DiT",
    "qwen3dit": "baselines.qwen3dit:Qwen3DiT",
    "remote": "baselines.remote:Remote",
    "lerobot": "baselines.lerobot:LeRobot",
}
