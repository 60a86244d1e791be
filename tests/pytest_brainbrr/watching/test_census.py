"""The census of live objects leaves other threads alone."""

import gc
import threading
from collections.abc import Iterator

import torch
from torch import Tensor

from pytest_brainbrr.observers.census import living


def test_the_objects_of_a_type_are_found_and_no_others() -> None:
    class Own(Tensor):
        pass

    mine, own = torch.ones(3), torch.ones(2).as_subclass(Own)
    found = living({Tensor, torch.nn.Parameter})
    assert found is not None
    assert any(thing is mine for thing in found)
    assert not any(thing is own for thing in found)
    assert {type(thing) for thing in found} <= {Tensor, torch.nn.Parameter}


def test_no_list_is_made_while_another_thread_may_be_building_a_tuple() -> None:
    """Who holds a half-built tuple has the interpreter refuse to let it grow: a SystemError in the trainer."""
    inside, go_on, built = threading.Event(), threading.Event(), list[tuple[int, ...]]()

    def numbers() -> Iterator[int]:
        for number in range(50):
            if number == 5:
                inside.set()
                go_on.wait()
            yield number

    thread = threading.Thread(target=lambda: built.append(tuple(numbers())))
    thread.start()
    inside.wait()
    found = living({Tensor})
    held = gc.get_objects() if found is not None else None  # what it comes to where one is made
    go_on.set()
    thread.join()
    assert found is None
    assert built == [tuple(range(50))]
    del held


def test_threads_that_wait_are_no_reason_not_to_look() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert living({Tensor}) is not None
    finally:
        over.set()
        thread.join()
