"""Doctor: what works on this machine, what would cost a day, and how to mend it.

    evalkit doctor [--suite S] [--policy P] [--workers N]

`examination` asks all checks, each of which yields `findings`: of this machine (`machine`), of a suite, in its own
interpreter (`preflight`), and of a policy, in its own (`inference`).
"""
