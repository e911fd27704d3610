"""What the C library does with memory that a step has freed, where steps run on the CPU."""

import ctypes
import glob
import os
import platform

# <malloc.h>
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
ACCELERATORS = "/dev/nvidia[0-9]*", "/dev/accel*", "/dev/vfio/[0-9]*", "/dev/kfd"


def keep_freed() -> bool:
    """Keeps freed memory in the process, instead of giving it back after each step.

    XLA allocates a step's temporaries anew each step. glibc maps blocks of their size afresh, and
    the kernel clears them page by page: 0.7 GB and a tenth of the CPU time of VL-BERT base at 8
    captions. The process keeps its peak for good, which a run reaches every step anyway.

    Call it before anything starts threads: their arenas (heaps of their own, too small for such
    blocks) are counted once. With one arena, threads wait for each other in malloc, so hosts whose
    steps run on an accelerator, with many threads reading input, are left alone.

    Returns:
      whether it applies: glibc, and no accelerator in sight or JAX_PLATFORMS=cpu.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    if os.environ.get("JAX_PLATFORMS") != "cpu" and any(map(glob.glob, ACCELERATORS)):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1), mallopt(_ARENA_MAX, 1)])
