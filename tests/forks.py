"""A Python that has imported the libraries, and forks a process for each run of a script.

That saves two seconds of imports per run. Requests come from standard input, one line of JSON
each: {"argv", "cwd", "env", "output", "errors"}; the exit status goes to standard output. Nothing
of the project is imported before the fork. The order of sets is the same in all forks: what must
not depend on it is compared with a run in a Python of its own.
"""

import json
import os
import sys
import types
import warnings


def become(request):
    """Turn this fork into the run of a script."""
    write = os.O_WRONLY | os.O_CREAT
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["output"], write),
        (2, request["errors"], write),
    ):
        file = os.open(path, flags)
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    script = request["argv"][0]
    search_path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[0:0] = [os.path.dirname(script), *filter(None, search_path)]
    sys.argv = request["argv"]
    # The module stays in sys.modules until the end: threads may still ask for it.
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    module.__file__ = script
    with open(script, "rb") as file:
        code = compile(file.read(), script, "exec")
    exec(code, module.__dict__)


def main():
    # The folder of the tests, which a script would not see.
    sys.path.pop(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import matplotlib.backends.backend_agg  # noqa: F401
        import scipy.sparse  # noqa: F401
        import sklearn.metrics  # noqa: F401
        import torch  # noqa: F401
    # torchvision is left to the scripts: its import draws random numbers, after they set the seed.
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            answers.close()
            return become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main()
