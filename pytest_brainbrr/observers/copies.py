"""Copies of a model's weights: EMA, SWA, teachers, shadow dicts and lists.

Module copies are noticed when copy.deepcopy or pickle restores them (`Module.__setstate__`); dicts and lists are looked
for among Python's objects at the borders of the first three steps. Limits: a copy in another form, or with tensors of
other shapes, is not found.
"""

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pytest_brainbrr.observers.census import living
from pytest_brainbrr.observers.core import Watch
from pytest_brainbrr.observers.models import Models
from pytest_brainbrr.observers.tensors import digest, plain, sampled

SEARCHED = 3


class Copy:
    """One known copy: how to get at its tensors without holding them."""

    def __init__(self, identity: str, of: str, form: str, thing: Any) -> None:
        self.identity, self.of, self.form = identity, of, form
        # Dicts and lists cannot be referred to weakly: their tensors stand for them.
        self.reference = weakref.ref(thing) if isinstance(thing, nn.Module) else None
        self.tensors = [] if isinstance(thing, nn.Module) else [weakref.ref(value) for value in _values(thing)]
        self.names = list(thing) if isinstance(thing, dict) else None
        self.previous: tuple[str, Tensor, Tensor] | None = None


class Copies:
    """Writes `copy` events."""

    def __init__(self, watch: Watch, models: Models) -> None:
        self.watch, self.models = watch, models
        self._restored: list[weakref.ref[nn.Module]] = []
        self._copies: dict[str, Copy] = {}
        self._updates: dict[int, int] = {}

    def install(self) -> None:
        """Notice copies being made, and look at them at every border."""
        watch = self.watch
        watch.replace(nn.Module, "__setstate__", self._wrap_setstate)
        watch.when_imported("torch.optim.swa_utils", self._averaged)
        watch.on_border.append(self.record)
        watch.shared["copies_now"] = self.now

    def _wrap_setstate(self, original: Any) -> Any:
        observer = self

        def __setstate__(module: nn.Module, state: Any) -> None:  # noqa: N807
            original(module, state)
            if observer.watch.active and not observer.watch.busy:
                observer._restored.append(weakref.ref(module))

        return __setstate__

    def _averaged(self, module: Any) -> None:
        updates = self._updates

        def make(original: Any) -> Any:
            def update_parameters(averaged: Any, *args: Any, **kwargs: Any) -> Any:
                updates[id(averaged)] = updates.get(id(averaged), 0) + 1
                return original(averaged, *args, **kwargs)

            return update_parameters

        self.watch.replace(module.AveragedModel, "update_parameters", make)

    # ------------------------------------------------------------------ finding

    def _search(self) -> None:
        roots = []
        for identity, _, root in self.models.roots():
            named = dict(root.named_parameters())
            if named:
                roots.append((identity, root, named))
        for identity, _, named in roots:
            for reference in self._restored:
                module = reference()
                if module is None or self.watch.registry.get(module) is not None:
                    continue
                theirs = dict(module.named_parameters())
                if theirs.keys() == named.keys() and all(theirs[name] is not named[name] for name in named):
                    self._know(identity, "module", module)
            self._restored = [reference for reference in self._restored if reference() is not None]
        if self.watch.borders <= SEARCHED and roots:
            self._search_containers([(identity, named) for identity, _, named in roots if len(named) > 1])

    def _search_containers(self, roots: list[tuple[str, dict[str, nn.Parameter]]]) -> None:
        known = {id(tensor) for copy in self._copies.values() for tensor in _alive(copy)}
        sizes = {len(named): (identity, named) for identity, named in roots}
        total = {identity: len(dict(root.state_dict(keep_vars=True))) for identity, _, root in self.models.roots()}
        for identity, named in roots:
            sizes.setdefault(total.get(identity, 0), (identity, named))
        for thing in living({dict, list}) or ():
            kind = type(thing)
            if len(thing) not in sizes:
                continue
            identity, named = sizes[len(thing)]
            if kind is dict:
                if not named.keys() <= thing.keys() or not all(isinstance(thing[name], Tensor) for name in named):
                    continue
                pairs = [(named[name], thing[name]) for name in named]
            else:
                if len(thing) != len(named) or not all(type(value) in {Tensor, nn.Parameter} for value in thing):
                    continue
                pairs = list(zip(named.values(), thing, strict=True))
            if any(value is mine or value.shape != mine.shape for mine, value in pairs) or any(
                value is mine.grad for mine, value in pairs
            ):
                continue
            if any(
                value.untyped_storage().data_ptr() == mine.untyped_storage().data_ptr() for mine, value in pairs[:2]
            ):
                continue  # a state dict that shares the model's memory
            if not any(id(value) in known for _, value in pairs) and all(
                value.grad_fn is None for _, value in pairs[:2]
            ):
                self._know(identity, kind.__name__, thing)

    def _know(self, of: str, form: str, thing: Any) -> None:
        if isinstance(thing, nn.Module):
            identity = self.watch.registry.name(thing, "c")
            parents = self.models.parents_of(thing)
            averaged = [parent for parent in parents if type(parent).__name__ == "AveragedModel"]
            form = "AveragedModel" if averaged else form
        else:
            identity = self.watch.registry.name(_values(thing)[0], "c")
        if identity not in self._copies:
            self._copies[identity] = Copy(identity, of, form, thing)

    # ------------------------------------------------------------------ recording

    def record(self) -> None:
        """Look for copies and record those that live."""
        watch = self.watch
        if not watch.active:
            return
        with watch.observing("copies"):
            self._search()
            roots = {identity: root for identity, _, root in self.models.roots()}
            for copy in list(self._copies.values()):
                root = roots.get(copy.of)
                mine = dict(root.named_parameters()) if root is not None else {}
                theirs = self._named(copy, list(mine))
                if root is None or not theirs:
                    continue
                digests = {name: digest(tensor) for name, tensor in theirs.items()}
                module = copy.reference() if copy.reference is not None else None
                held = {
                    id(tensor)
                    for _, optimizer in watch.registry.alive("o")
                    for group in optimizer.param_groups
                    for tensor in group["params"]
                }
                owner = (
                    next((parent for parent in self.models.parents_of(module) if id(parent) in self._updates), None)
                    if module is not None
                    else None
                )
                watch.emit(
                    "copy",
                    id=copy.identity,
                    of=copy.of,
                    form=copy.form,
                    parameters=digests,
                    equal=sum(value == digest(mine[name]) for name, value in digests.items() if name in mine),
                    decay=self._decay(copy, mine, theirs),
                    in_optimizer=any(id(tensor) in held for tensor in theirs.values()),
                    updates=self._updates.get(id(owner)) if owner is not None else None,
                )

    def now(self) -> list[dict[str, Any]]:
        """Return the copies' digests for a snapshot."""
        found = []
        roots = {identity: root for identity, _, root in self.models.roots()}
        for copy in list(self._copies.values()):
            root = roots.get(copy.of)
            theirs = self._named(copy, [name for name, _ in root.named_parameters()]) if root is not None else {}
            if theirs:
                found.append({"form": copy.form, "parameters": {name: digest(value) for name, value in theirs.items()}})
        return found

    def _named(self, copy: Copy, names: list[str]) -> dict[str, Tensor]:
        if copy.reference is not None:
            module = copy.reference()
            return dict(module.named_parameters()) if module is not None else {}
        tensors = [reference() for reference in copy.tensors]
        if any(tensor is None for tensor in tensors):
            # `shadow[name] = d * shadow[name] + ...` puts new tensors into the same dict: it is looked for again.
            self._copies.pop(copy.identity, None)  # another thread may have been here
            roots = [
                (identity, dict(root.named_parameters()))
                for identity, _, root in self.models.roots()
                if identity == copy.of
            ]
            before = set(self._copies)
            self._search_containers(roots)
            made = [self._copies.pop(identity, None) for identity in set(self._copies) - before]
            fresh = [one for one in made if one is not None]
            if len(fresh) != 1:
                return {}
            copy.tensors, copy.names = fresh[0].tensors, fresh[0].names
            self._copies[copy.identity] = copy
            tensors = [reference() for reference in copy.tensors]
        found = {
            name: tensor
            for name, tensor in zip(copy.names or names, tensors, strict=False)
            if isinstance(tensor, Tensor)
        }
        return {name: tensor for name, tensor in found.items() if name in names}

    def _decay(self, copy: Copy, mine: dict[str, nn.Parameter], theirs: dict[str, Tensor]) -> float | None:
        """Fit copy' = d * copy + (1 - d) * model on the largest tensor, from the values kept at the last border."""
        name = max((name for name in theirs if name in mine), key=lambda name: mine[name].numel(), default=None)
        if name is None or not plain(theirs[name]):
            return None
        new, model = sampled(theirs[name]).double().clone(), sampled(mine[name]).double().clone()
        before = copy.previous if copy.previous is not None and copy.previous[0] == name else None
        copy.previous = (name, new, model)
        if before is None or before[1].shape != new.shape or bool((before[1] == new).all()):
            return None
        old, change = before[1], new - before[1]
        # A copy is updated after the step as a rule, so since the last border it followed the weights of that border.
        for followed in (before[2], model):
            direction = followed - old
            size = (direction * direction).sum()
            if size > 0:
                share = (change * direction).sum() / size
                if torch.linalg.vector_norm(change - share * direction) < 1e-2 * torch.linalg.vector_norm(change):
                    return float(1 - share)
        return None


def _values(thing: Any) -> list[Tensor]:
    return [value for value in (thing.values() if isinstance(thing, dict) else thing) if isinstance(value, Tensor)]


def _alive(copy: Copy) -> Iterator[Tensor]:
    for reference in copy.tensors:
        tensor = reference()
        if tensor is not None:
            yield tensor
