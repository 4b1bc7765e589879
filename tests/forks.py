"""A Python that has imported the libraries, and forks a process for each run of a script.

That saves seconds of imports per run. `python forks.py serve SOCKET` is that Python, which lives
until its standard input is closed; `python forks.py run SOCKET SCRIPT ARGUMENTS` runs a script as a
fork of it, as `python SCRIPT ARGUMENTS` would. Nothing of the project is imported before the fork.
The order of sets is the same in all forks: what must not depend on it is compared with a run in a
Python of its own.
"""

import json
import os
import select
import socket
import sys


def ask(address, argv, output=1, errors=2):
    """Run a script as a fork of the Python that serves at a socket; returns its exit status.

    output, errors: file descriptors for what it prints. Environment and folder are those of now.
    """
    request = dict(argv=argv, cwd=os.getcwd(), env=dict(os.environ))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1800)
        connection.connect(address)
        socket.send_fds(connection, [b"\n"], [output, errors])
        connection.sendall(json.dumps(request).encode() + b"\n")
        return int(connection.recv(100))


def become(request, output, errors):
    """Turn this fork into the run of a script."""
    import atexit
    import threading
    import types

    null = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((null, output, errors)):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]
    script = os.path.abspath(sys.argv[0])
    search_path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[0:0] = [os.path.dirname(script), *filter(None, search_path)]
    # The module stays in sys.modules until the end: threads may still ask for it.
    # It has the second name in worker processes.
    module = sys.modules["__main__"] = sys.modules["__mp_main__"] = types.ModuleType("__main__")
    module.__file__ = script
    try:
        with open(script, "rb") as file:
            exec(compile(file.read(), script, "exec"), module.__dict__)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    # As a Python ends, except that modules are not taken apart, which takes longer than most runs.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 255)


def serve(address):
    """Answer requests one after the other until standard input is closed."""
    import warnings

    # The folder of the tests, which a script would not see.
    sys.path.pop(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fontTools.subset  # noqa: F401
        import h5py  # noqa: F401
        import matplotlib.backends.backend_pdf  # noqa: F401
        import matplotlib.backends.backend_svg  # noqa: F401
        import matplotlib.pyplot  # noqa: F401
        import scipy.sparse  # noqa: F401
        import sklearn.decomposition  # noqa: F401
        import sklearn.metrics  # noqa: F401
        import torch
        import torchvision  # noqa: F401

        with torch.device("meta"):  # as networks/extractor.py does
            import pretrainedmodels  # noqa: F401
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{address}.new")
    server.listen()
    os.rename(f"{address}.new", address)
    while server in select.select([server, sys.stdin], [], [])[0]:
        connection, _ = server.accept()
        _, files, _, _ = socket.recv_fds(connection, 1, 2)
        with connection.makefile() as lines:
            request = json.loads(lines.readline())
        child = os.fork()
        if not child:
            server.close()
            connection.close()
            return become(request, *files)
        for file in files:
            os.close(file)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(str(status).encode())
        connection.close()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        status = ask(sys.argv[2], sys.argv[3:])
        # As a shell has it: 128 and the number of the signal.
        sys.exit(128 - status if status < 0 else status)
