"""A Python that has imported what the scripts import, and forks a process for each run of one: that saves two seconds of imports a run.

Reads requests from standard input, a line of JSON each: {"argv", "cwd", "env", "output", "errors"}; answers with the exit status on standard output.
Nothing of the project is imported before the fork. Sets have one order in all forks: what must not depend on it is compared with runs of their own.
"""

import json
import os
import sys
import types
import warnings


def become(request):
    """Turn this fork into a run of a script."""
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["output"], os.O_WRONLY | os.O_CREAT),
        (2, request["errors"], os.O_WRONLY | os.O_CREAT),
    ):
        file = os.open(path, flags)
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    script = request["argv"][0]
    sys.path[0:0] = [
        os.path.dirname(script),
        *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
    ]
    sys.argv = request["argv"]
    module = sys.modules["__main__"] = types.ModuleType(
        "__main__"
    )  # and so it stays till the end: threads may still ask for it
    module.__file__ = script
    with open(script, "rb") as file:
        code = compile(file.read(), script, "exec")
    exec(code, module.__dict__)


def main():
    sys.path.pop(0)  # the tests' folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import matplotlib.backends.backend_agg  # noqa: F401
        import scipy.sparse  # noqa: F401
        import sklearn.metrics  # noqa: F401
        import torch  # noqa: F401
    # torchvision is left to the scripts: its import draws random numbers, after they have set the seed.
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            answers.close()
            return become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main()
