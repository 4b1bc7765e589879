"""A pool of worker processes, and their end, however the script ends."""

import contextlib
import os
import signal
import threading
import time


@contextlib.contextmanager
def worker_pool(workers):
    """A pool of `workers` fresh processes. They and what they started are gone when it is left by an exception, and when this process is, however."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import active_children, get_context

    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=parent_watchdog,
        initargs=(os.getpid(),),
    )
    try:
        yield pool
    except BaseException:  # Ctrl-C or a full disk: do not wait for what is under way
        pool.shutdown(wait=False, cancel_futures=True)
        for child in active_children():
            kill_group(child.pid)
        raise
    pool.shutdown()


def kill_group(pid):
    """Kill a worker of `worker_pool` and the processes it started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg") and os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)


def parent_watchdog(parent):
    """Make this worker process the head of a process group that ends when process `parent` is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    end_with(parent)


def end_with_parent(worker):
    """For a loader's process: end when the one that started it is gone; torch's own watch over that can wait for ever at the exit."""
    end_with(os.getppid())


def end_with(parent):
    """Start a thread that ends this process, and the group that it is the head of, when process `parent` is gone, however it went."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.1)
        kill_group(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
