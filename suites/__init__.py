"""The suites: one line each. `evalkit` finds them here and nowhere else."""

SUITES = {
    "libero_spatial": "suites.libero.suite:make_suite",
    "libero_object": "suites.libero.suite:make_suite",
    "libero_goal": "suites.libero.suite:make_suite",
    "libero_10": "suites.libero.suite:make_suite",
    "libero_90": "suites.libero.suite:make_suite",
    "robocasa_gr1": "suites.robocasa_gr1.suite:make_suite",
    "toy": "suites.toy.suite:make_suite",
}

#: Names that stand for several suites.
GROUPS = {
    "libero": ("libero_spatial", "libero_object", "libero_goal", "libero_10"),  # the paper's four
}
