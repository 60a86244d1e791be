"""Other processes: loader workers, ranks, wrappers for several of them.

Workers that fork from a watched process keep their own record. Limits: processes that are not Python, or that are
started with an environment of their own, are not seen.
"""

import inspect
from typing import Any

import torch
import torch.utils.data._utils.fetch as fetch_module
import torch.utils.data._utils.worker as worker_module

from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.loaders import _plain_indices
from pytest_brainbrr.observers.models import Models
from pytest_brainbrr.observers.randomness import states

COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "all_gather_into_tensor",
    "broadcast",
    "barrier",
    "reduce_scatter_tensor",
    "gather",
)


class Processes:
    """Writes `worker`, `fetch`, `distributed` and `process_started` events."""

    def __init__(self, watch: Watch, models: Models) -> None:
        self.watch, self.models = watch, models

    def install(self) -> None:
        """Wrap the worker's main function, DDP and torch.distributed."""
        watch = self.watch
        watch.replace(worker_module, "_worker_loop", self._wrap_worker)
        if torch.distributed.is_available():
            distributed = torch.distributed
            watch.replace(distributed, "init_process_group", self._wrap_init)
            watch.replace(distributed, "destroy_process_group", self._wrap_destroy)
            for name in COLLECTIVES:
                watch.replace(distributed, name, self._wrap_collective(name))
            watch.replace(torch.nn.parallel.DistributedDataParallel, "__init__", self._wrap_ddp)

    def _wrap_worker(self, original: Any) -> Any:
        observer = self

        def _worker_loop(*args: Any, **kwargs: Any) -> Any:
            watch = observer.watch
            watch.role = "worker"
            fetchers = (fetch_module._MapDatasetFetcher, fetch_module._IterableDatasetFetcher)
            given = inspect.signature(original).bind(*args, **kwargs).arguments
            info = {"worker": given.get("worker_id"), "workers": given.get("num_workers")}
            first = [True]

            def make(fetch: Any) -> Any:
                def wrapper(fetcher: Any, indices: Any) -> Any:
                    if watch.active and not watch.busy:
                        with watch.observing("processes"):
                            now = states()
                            if first[0]:
                                first[0] = False
                                watch.emit(
                                    "worker",
                                    loader=None,
                                    **info,
                                    torch_seed=torch.initial_seed(),
                                    numpy=now["numpy"],
                                    python=now["python"],
                                    start="fork",
                                )
                            watch.emit(
                                "fetch",
                                worker=info["worker"],
                                indices=_plain_indices(indices),
                                numpy_before=now["numpy"],
                                python_before=now["python"],
                                torch_before=now["torch"],
                            )
                    return fetch(fetcher, indices)

                return wrapper

            for kind in fetchers:
                watch.replace(kind, "fetch", make)
            return original(*args, **kwargs)

        return _worker_loop

    # ------------------------------------------------------------------ torch.distributed

    def _emit(self, action: str, **fields: Any) -> None:
        distributed, ready = torch.distributed, torch.distributed.is_initialized()
        everything = {
            "backend": distributed.get_backend() if ready else None,
            "rank": distributed.get_rank() if ready else None,
            "world_size": distributed.get_world_size() if ready else None,
            "wrapper": None,
            "model": None,
            "operation": None,
        }
        self.watch.emit("distributed", action=action, **{**everything, **fields})

    def _wrap_init(self, original: Any) -> Any:
        observer = self

        def init_process_group(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if observer.watch.active:
                with observer.watch.observing("processes"):
                    observer._emit("init")
            return result

        return init_process_group

    def _wrap_destroy(self, original: Any) -> Any:
        observer = self

        def destroy_process_group(*args: Any, **kwargs: Any) -> Any:
            if observer.watch.active:
                with observer.watch.observing("processes"):
                    observer._emit("destroy")
            return original(*args, **kwargs)

        return destroy_process_group

    def _wrap_collective(self, name: str) -> Any:
        observer = self

        def make(original: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                watch = observer.watch
                if (
                    watch.active
                    and not watch.busy
                    and not torch.compiler.is_compiling()
                    and ("collective", name) not in watch.shared
                ):
                    watch.shared[("collective", name)] = True
                    with watch.observing("processes"):
                        observer._emit("collective", operation=name)
                return original(*args, **kwargs)

            return wrapper

        return make

    def _wrap_ddp(self, original: Any) -> Any:
        observer = self

        def __init__(wrapper: Any, module: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(wrapper, module, *args, **kwargs)
            if observer.watch.active:
                with observer.watch.observing("processes"):
                    observer._emit("wrap", wrapper=type(wrapper).__name__, model=observer.models.know(module, "called"))

        return __init__
