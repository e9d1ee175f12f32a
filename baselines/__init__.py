"""The policies: one line each. `evalkit` finds them here and nowhere else."""

POLICIES = {
    "scripted": "baselines.scripted:Scripted",
    "random": "baselines.random:Random",
    "noop": "baselines.noop:Noop",
    "replay": "baselines.replay:Replay",
}
