"""Start and end of a script and of its processes.

Expected failures become one line, processes wait for each other, and worker processes end, however
the script ends.
"""

import contextlib
import errno
import os
import platform
import signal
import sys
import threading
import time
from collections import deque

from common import RANK, WORLD_SIZE, fail

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
# What gloo and NCCL say, among many addresses, when another process has gone.
PEER_ERRORS = ("losed by peer", "reset by peer", "Broken pipe", "Socket", "ncclRemoteError")


def run_script(main):
    """Run the `main` of a script; expected failures become one line on standard error.

    These are Ctrl-C, a full disk, missing permissions, and the end of another process of the run.
    """
    if WORLD_SIZE > 1:
        # torchrun, when killed, would leave its processes running.
        end_with(os.getppid())
    if RANK:
        sys.stdout = open(os.devnull, "w")
    try:
        main()
        if WORLD_SIZE > 1:
            leave()
    except KeyboardInterrupt:
        # Objects that were interrupted in their constructor, torch's among them, fail in __del__.
        sys.unraisablehook = lambda _: None
        print("interrupted: run the same command again to resume", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        fail(explain(error))
    except RuntimeError as error:
        # torch's own class; this file does not import torch.
        if type(error).__name__ == "OutOfMemoryError":
            fail(
                f"out of memory on the GPU ({str(error).splitlines()[0][:150]}): use a smaller "
                "--batch or --precision bf16 (02 to 05), or --device cpu"
            )
        if WORLD_SIZE > 1 and any(sign in str(error) for sign in PEER_ERRORS):
            fail(
                "another process of this run has ended; its own message says why. Run the same "
                "command again to resume"
            )
        if "NCCL" in str(error):
            reason = " ".join(str(error).split())[:500]
            fail(f"{reason} (more with the environment variable NCCL_DEBUG=INFO)")
        raise


def explain(error):
    """An OSError of the file system as one line; any other is raised again."""
    if error.errno in (errno.EACCES, errno.EPERM):
        # The system does not say whether it was reading or writing.
        return (
            f"no access to {error.filename or 'a file'} ({error.strerror}): change its "
            "permissions and run the same command again; finished work is kept"
        )
    # numpy reports a full disk without an error number.
    is_numpy_full = error.errno is None and " written" in str(error)
    if not is_numpy_full and error.errno not in DISK_ERRORS:
        raise error
    file = f" {error.filename}" if error.filename else ""
    reason = "is the disk full?" if is_numpy_full else error.strerror
    return (
        f"cannot write{file}: {reason} Finished work is kept; run the same command again to resume"
    )


def describe_processor():
    """The processor and its vector instructions, on which rounding and speed depend, as text."""
    try:
        with open("/proc/cpuinfo") as file:
            fields = [line.partition(":") for line in file]
    except OSError:
        fields = []
    known = {key.strip(): value.strip() for key, _, value in fields}
    name = known.get("model name") or platform.processor() or platform.machine()
    flags = known.get("flags", "").split()
    vectors = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return ", ".join([name, *(flag for flag in vectors if flag in flags)])


def barrier():
    """Return when all processes of the run have called this; alone, at once."""
    if WORLD_SIZE == 1:
        return
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        # The timeout is long because one process may have a week of videos while the others wait.
        # torchrun notices at once when a process dies.
        from datetime import timedelta

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=timedelta(days=30))
    dist.all_reduce(torch.zeros(1))


def leave():
    """Leave the process group when all processes have called this."""
    import torch.distributed as dist

    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()


# ---------------------------------------------------------------- worker processes


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


def map_in_workers(function, items, workers):
    """Yield function(item) of each item, in their order, computed by `workers` processes.

    A process that dies, as the system ends those that exhaust the memory, costs its item alone,
    whose result is None. At most 2 * workers items are in progress or have results in memory.
    """
    from concurrent.futures.process import BrokenProcessPool

    waiting, left = deque(), deque(items)
    while left:
        try:
            with worker_pool(min(workers, len(left))) as pool:
                while left or waiting:
                    while left and len(waiting) < 2 * workers:
                        future = pool.submit(function, left[0])
                        waiting.append((left.popleft(), future))
                    result = waiting[0][1].result()
                    waiting.popleft()
                    yield result
        except BrokenProcessPool:
            # This ended all that was in progress. Which item did it, each shows by itself.
            while waiting:
                item, future = waiting.popleft()
                is_done = future.done() and not future.exception()
                yield future.result() if is_done else run_alone(function, item)


def run_alone(function, item):
    """function(item), computed by a process of its own; None if that dies."""
    from concurrent.futures.process import BrokenProcessPool

    try:
        with worker_pool(1) as pool:
            return pool.submit(function, item).result()
    except BrokenProcessPool:
        return None


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
    """worker_init_fn of a DataLoader: end this process when the one that started it has ended.

    torch watches over this too, but can wait forever when the process exits.
    """
    end_with(os.getppid())


def end_with(parent):
    """Start a thread that ends this process, and the group it leads, once `parent` has ended."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.1)
        kill_group(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
