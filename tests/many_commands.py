"""Many command lines one after the other, each in a fork of one process that has imported evalkit: a second saved each.

Reads a JSON list of argument lists; prints a JSON list of (status, stdout, stderr).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import baselines
from evalkit import cli, evaluation, registry, tables

#: What commands import late, once for all of them.
PRELOADED = (evaluation, tables, *map(registry.policy_class, baselines.POLICIES), *map(registry.load_suite,
                                                                                       registry.suite_names()))


def run(arguments: list[str]) -> tuple[int, str, str]:
    """What `evalkit ARGUMENTS` gives."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            _become(arguments, out.fileno(), err.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()


def _become(arguments: list[str], out: int, err: int) -> None:
    """The rest of the forked process: it ends as the command does."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.argv = ["evalkit", *arguments]
    status = 1
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException as error:  # as Python itself would
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    print(json.dumps([run(arguments) for arguments in json.load(sys.stdin)]))
