"""Start and end of a script: errors as one line, and processes that wait for each other."""

import errno
import os
import sys

from common import RANK, WORLD_SIZE, fail
from running.workers import end_with

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# What gloo and NCCL say, among many addresses, when another process has gone.
PEER_ERRORS = ("losed by peer", "reset by peer", "Broken pipe", "Socket", "NCCL")


def run_script(main):
    """Run the `main` of a script; expected failures become one line on standard error.

    These are Ctrl-C, a full disk, missing permissions, and the end of another process of the run.
    """
    if WORLD_SIZE > 1:
        # torchrun, when killed, would leave its processes at work.
        end_with(os.getppid())
    if RANK:
        sys.stdout = open(os.devnull, "w")
    try:
        main()
        if WORLD_SIZE > 1:
            from running import distributed

            distributed.leave()
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
        if WORLD_SIZE == 1 or not any(sign in str(error) for sign in PEER_ERRORS):
            raise
        fail(
            "another process of this run has ended; its own message says why. Run the same "
            "command again to resume"
        )


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


def barrier():
    """Return when all processes of the run have called this; alone, at once."""
    if WORLD_SIZE > 1:
        from running import distributed

        distributed.barrier()
