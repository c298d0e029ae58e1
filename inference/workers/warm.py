"""Loaded models stay in the worker, by digest, until memory is wanted: the least recently used leaves first, a GPU for
the RAM before it is dropped.

A runner asks ``models_at(place).get(card, load)``; the same card gives the same model, altered files another one.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dicom_node.core.entities import JobStage
from dicom_node.core.errors import ModelUnavailable
from dicom_node.core.progress import tell
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.prediction import Load, LoadedModel
from dicom_node.inference.workers.device import choose_device, free_bytes, held_bytes, release_cached
from dicom_node.inference.workers.place import ComputePlace
from dicom_node.inference.workers.precision import in_precision, move_weights
from dicom_node.inference.workers.together import asked_together

_MEGABYTE = 1 << 20
#: A model is put aside in RAM where so many times its size is free: the machine has other work.
_RAM_TO_SPARE = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    model: LoadedModel
    folder: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """What the decisions go by: bytes that this process holds at a device, and bytes free there; ``cpu`` is RAM."""

    held: Callable[[str], int] = held_bytes
    free: Callable[[str], int] = free_bytes


_MEASURED = MemoryFigures()

#: A model's digest and the card's parameters, a site's overrides included: they may shape what the model gives.
_Key = tuple[str, tuple[tuple[str, float], ...]]


class WarmModels:
    """The loaded models of one process at one place. Safe for several threads; a model is loaded once.

    On a GPU they may together hold the budget of the place, and no more than is free there. What must leave is put
    aside in RAM, up to the same budget and while RAM is free, and comes back without its files.
    """

    def __init__(self, place: ComputePlace, memory: MemoryFigures = _MEASURED, device: str = "") -> None:
        """Without a `device` the first that the place allows is taken."""
        self._place, self._memory = place, memory
        self._budget_bytes = place.model_budget_mb * _MEGABYTE
        #: Least recently used first.
        self._kept: dict[_Key, _Kept] = {}
        #: Put aside in RAM, least recently used first.
        self._aside: dict[_Key, _Kept] = {}
        self._device = device
        self._lock = threading.RLock()

    @property
    def device(self) -> str:
        """``cuda:N``, ``mps`` or ``cpu``; raises `ModelUnavailable` when the configured device is not here."""
        with self._lock:
            self._device = self._device or choose_device(self._place)
            return self._device

    @property
    def sizes_bytes(self) -> dict[str, int]:
        """What each loaded model holds, by digest, least recently used first."""
        with self._lock:
            sizes: dict[str, int] = {}
            for (digest, _), one in self._kept.items():
                sizes[digest] = sizes.get(digest, 0) + one.size_bytes
            return sizes

    @property
    def aside_bytes(self) -> int:
        """What models hold that were put aside in RAM."""
        with self._lock:
            return sum(one.size_bytes for one in self._aside.values())

    @property
    def understood(self) -> tuple[str, ...]:
        """What the model used last takes its input and its output for, where it tells: for people who try it."""
        with self._lock:
            latest = next(reversed(self._kept.values()), None)
            return tuple(getattr(latest.model, "understood", ())) if latest else ()

    def get(self, card: ModelCard, load: Load) -> LoadedModel:
        """Return the card's model, loaded now if it is not there. Raises `ModelUnavailable`."""
        with self._lock:
            key = (card.digest, tuple(sorted(card.parameters.items())))
            self._forget_where_gone(key)
            kept = self._kept.pop(key, None)
            if kept is None:
                tell(JobStage.LOADING)
                kept = self._brought_back(key, card) or self._loaded(card, load)
                tell(JobStage.RUNNING)
            self._kept[key] = kept
            self._evict_to(self._budget_bytes)
            return asked_together(kept.model)

    def _forget_where_gone(self, key: _Key) -> None:
        """Drop a model whose folder has been removed: a bundle's own code reads there while it runs."""
        for place in (self._kept, self._aside):
            kept = place.get(key)
            if kept is not None and not kept.folder.is_dir():
                self._drop(place, key)

    def _brought_back(self, key: _Key, card: ModelCard) -> _Kept | None:
        """Return a model that was put aside to the GPU; `None` without one."""
        kept = self._aside.pop(key, None)
        if kept is None:
            return None
        self._make_room(card, kept.size_bytes)
        move_weights(kept.model, self.device)
        self._tell("model brought back", key, kept)
        return kept

    def _loaded(self, card: ModelCard, load: Load) -> _Kept:
        self._make_room(card, card.weights_file.stat().st_size if card.weights_file else 0)
        return self._load(card, card.digest, load)

    def _load(self, card: ModelCard, digest: str, load: Load) -> _Kept:
        gc.collect()
        release_cached(self.device)  # memory that is kept for reuse would hide what the model takes
        before, started = self._memory.held(self.device), time.perf_counter()
        model = in_precision(load(card, self.device), self._place.precision or card.precision, self.device)
        if load_card(card.folder).digest != digest:
            raise ModelUnavailable(
                f"Model {card.name} in {card.folder} changed while it was loaded. Run the job again."
            )
        grown = self._memory.held(self.device) - before
        kept = _Kept(model, card.folder, max(model.size_bytes, grown))
        took_s = round(time.perf_counter() - started, 3)
        _log.info("model loaded", extra={"model": card.name, "digest": digest[:12], "device": self.device,
                                         "mb": kept.size_bytes // _MEGABYTE, "took_s": took_s})  # fmt: skip
        return kept

    def _make_room(self, card: ModelCard, needed_bytes: int) -> None:
        """Drop what the new model replaces, and let leave as much as its weights will need at least."""
        for place in (self._kept, self._aside):
            for key in [key for key, one in place.items() if one.folder == card.folder and key[0] != card.digest]:
                self._drop(place, key)
        self._evict_to(max(0, self._budget_bytes - needed_bytes), keep_newest=False)
        while self._kept and self.device != "cpu" and self._memory.free(self.device) < needed_bytes:
            self._evict(next(iter(self._kept)))

    def _evict_to(self, limit_bytes: int, *, keep_newest: bool = True) -> None:
        """Let the least recently used leave until the rest fits; the newest may stay, however large: it is in use."""
        while len(self._kept) > keep_newest and sum(self.sizes_bytes.values()) > limit_bytes:
            self._evict(next(iter(self._kept)))

    def _evict(self, key: _Key) -> None:
        """Put a model aside in RAM where it was on a GPU and there is room, else drop it."""
        kept = self._kept[key]
        if self.device == "cpu" or not self._has_room_aside(kept.size_bytes) or not move_weights(kept.model, "cpu"):
            self._drop(self._kept, key)
            return
        self._aside[key] = self._kept.pop(key)
        release_cached(self.device)
        self._tell("model put aside in RAM", key, kept)

    def _has_room_aside(self, size_bytes: int) -> bool:
        """Make room in RAM for a model that leaves the GPU, by what was put aside before it; tell whether there is."""
        while self._aside and self.aside_bytes + size_bytes > self._budget_bytes:
            self._drop(self._aside, next(iter(self._aside)))
        return size_bytes <= self._budget_bytes and self._memory.free("cpu") >= _RAM_TO_SPARE * size_bytes

    def _drop(self, place: dict[_Key, _Kept], key: _Key) -> None:
        gone = place.pop(key)
        self._tell("model unloaded", key, gone)
        del gone
        gc.collect()
        release_cached(self.device)

    def _tell(self, what: str, key: _Key, one: _Kept) -> None:
        _log.info(what, extra={"digest": key[0][:12], "mb": one.size_bytes // _MEGABYTE})


@cache
def models_at(place: ComputePlace) -> WarmModels:
    """Return this process's models at a place."""
    return WarmModels(place)
