"""Let the C library keep the memory that tensors free, instead of asking the system for it again at every step."""

import ctypes
import logging
import sys

logger = logging.getLogger(__name__)

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to serve large blocks from memory it has, and to give none back; say whether it will.

    A training step frees and asks for the same large blocks again and again; by default each comes back as fresh
    pages that the system has to clear, 4 kB at a time. The process keeps its peak until it ends. Results do not
    change. Other C libraries (macOS, Windows, musl) are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    kept = bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, LARGEST_INT))
    logger.debug("freed memory is kept: %s", kept)
    return kept
