"""Start and end of a script: errors as one line, and several processes that wait for each other."""

import errno
import os
import sys

from common import RANK, WORLD_SIZE, fail
from running.workers import end_with


def run_script(main):
    """Run a script's `main`. Ctrl-C, a file that cannot be written, and the end of another process of the run end it with one line."""
    if WORLD_SIZE > 1:
        end_with(os.getppid())  # torchrun; killed, it would leave its processes at work
    if RANK:
        sys.stdout = open(os.devnull, "w")
    try:
        main()
        if WORLD_SIZE > 1:
            from running import distributed

            distributed.leave()
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        half = error.errno is None and " written" in str(
            error
        )  # numpy's way to say that a disk is full
        if error.errno in (
            errno.EACCES,
            errno.EPERM,
        ):  # of reading or of writing: the system does not say
            fail(
                f"no access to {error.filename or 'a file'} ({error.strerror}): finished work is kept; change the permissions and run the same command again"
            )
        if not half and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        fail(
            f"cannot write{f' {error.filename}' if error.filename else ''}: {'is the disk full?' if half else error.strerror}. What was done before is "
            "whole; run the same command again to go on"
        )
    except RuntimeError as error:  # gloo's or NCCL's, which comes in a sea of addresses
        if WORLD_SIZE == 1 or not any(
            sign in str(error)
            for sign in ("losed by peer", "reset by peer", "Broken pipe", "Socket", "NCCL")
        ):
            raise
        fail(
            "another process of this run has ended; its own message says why. Run the same command again to go on"
        )


def barrier():
    """Return when all processes of the run have come here; alone, at once."""
    if WORLD_SIZE > 1:
        from running import distributed

        distributed.barrier()
