"""The pool of worker processes, and how they end, however the script ends."""

import contextlib
import os
import signal
import threading
import time


@contextlib.contextmanager
def worker_pool(workers):
    """A pool of `workers` fresh processes, as a concurrent.futures executor.

    The workers and all processes that they started end when the block is left by an exception, and
    when this process ends, even if it is killed.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import active_children, get_context

    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=start_worker, initargs=(os.getpid(),)
    )
    try:
        yield pool
    except BaseException:
        # Ctrl-C or a full disk: unfinished work is not waited for.
        pool.shutdown(wait=False, cancel_futures=True)
        for child in active_children():
            kill_group(child.pid)
        raise
    pool.shutdown()


def start_worker(parent):
    """Make this process the head of a process group that ends with process `parent`."""
    # Ctrl-C is left to the parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    end_with(parent)


def kill_group(pid):
    """Kill a worker and the processes that it started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg") and os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)


def end_with_parent(worker):
    """worker_init_fn of a DataLoader: end this process when the one that started it is gone.

    torch watches over this too, but can wait forever when the process exits.
    """
    end_with(os.getppid())


def end_with(parent):
    """Start a thread that ends this process, and the group it leads, once `parent` is gone."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.1)
        kill_group(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
