"""Find live objects of given types without disturbing the trainer's other threads.

A list of all objects holds references to the tuples that other threads are just building from a generator, and the
interpreter refuses to let a tuple grow that somebody else holds: the trainer ends in a ``SystemError``. While a thread
is inside a generator no list is made. Limits: a thread may enter one between the look and the listing.
"""

import gc
import sys
import threading
from collections.abc import Collection
from inspect import CO_GENERATOR
from types import FrameType
from typing import Any


def living(kinds: Collection[type]) -> list[Any] | None:
    """Return the tracked objects of exactly these types; None where it is not the moment to ask."""
    if any(_generates(frame) for thread, frame in sys._current_frames().items() if thread != threading.get_ident()):
        return None
    # isinstance would ask proxies for their class, and so run code of the trainer.
    return [thing for thing in gc.get_objects() if type(thing) in kinds]


def _generates(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_flags & CO_GENERATOR:
            return True
        frame = frame.f_back
    return False
