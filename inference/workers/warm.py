"""Loaded models stay in the worker, by digest, until memory is wanted: the least recently used leaves first.

A runner asks ``models_at(place).get(card, load)``; the same card gives the same model, altered files another one.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dicom_node.core.entities import JobStage
from dicom_node.core.errors import ModelUnavailable
from dicom_node.core.progress import tell
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.prediction import Load, LoadedModel
from dicom_node.inference.workers.device import choose_device, held_bytes, release_cached
from dicom_node.inference.workers.place import ComputePlace
from dicom_node.inference.workers.precision import in_precision
from dicom_node.inference.workers.together import asked_together

_MEGABYTE = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    model: LoadedModel
    folder: Path
    size_bytes: int


#: A model's digest and the card's parameters, a site's overrides included: they may shape what the model gives.
_Key = tuple[str, tuple[tuple[str, float], ...]]


class WarmModels:
    """The loaded models of one process at one place. Safe for several threads; a model is loaded once."""

    def __init__(self, place: ComputePlace) -> None:
        self._place = place
        self._budget_bytes = place.model_budget_mb * _MEGABYTE
        #: Least recently used first.
        self._kept: dict[_Key, _Kept] = {}
        self._device = ""
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
                self._make_room(card)
                kept = self._load(card, card.digest, load)
                tell(JobStage.RUNNING)
            self._kept[key] = kept
            self._evict_to(self._budget_bytes)
            return asked_together(kept.model)

    def _forget_where_gone(self, key: _Key) -> None:
        """Drop a model whose folder has been removed: a bundle's own code reads there while it runs."""
        kept = self._kept.get(key)
        if kept is not None and not kept.folder.is_dir():
            self._evict(key)

    def _load(self, card: ModelCard, digest: str, load: Load) -> _Kept:
        gc.collect()
        release_cached(self.device)  # memory that is kept for reuse would hide what the model takes
        before, started = held_bytes(self.device), time.perf_counter()
        model = in_precision(load(card, self.device), self._place.precision or card.precision, self.device)
        if load_card(card.folder).digest != digest:
            raise ModelUnavailable(
                f"Model {card.name} in {card.folder} changed while it was loaded. Run the job again."
            )
        grown = held_bytes(self.device) - before
        kept = _Kept(model, card.folder, max(model.size_bytes, grown))
        took_s = round(time.perf_counter() - started, 3)
        _log.info("model loaded", extra={"model": card.name, "digest": digest[:12], "device": self.device,
                                         "mb": kept.size_bytes // _MEGABYTE, "took_s": took_s})  # fmt: skip
        return kept

    def _make_room(self, card: ModelCard) -> None:
        """Drop what the new model replaces, and as much as its weights will need at least."""
        for key in [key for key, one in self._kept.items() if one.folder == card.folder and key[0] != card.digest]:
            self._evict(key)
        needed = card.weights_file.stat().st_size if card.weights_file else 0
        self._evict_to(max(0, self._budget_bytes - needed), keep_newest=False)

    def _evict_to(self, limit_bytes: int, *, keep_newest: bool = True) -> None:
        """Drop the least recently used until the rest fits; the newest may stay, however large: it is in use."""
        while len(self._kept) > keep_newest and sum(self.sizes_bytes.values()) > limit_bytes:
            self._evict(next(iter(self._kept)))

    def _evict(self, key: _Key) -> None:
        gone = self._kept.pop(key)
        _log.info("model unloaded", extra={"digest": key[0][:12], "mb": gone.size_bytes // _MEGABYTE})
        del gone
        gc.collect()
        release_cached(self.device)


@cache
def models_at(place: ComputePlace) -> WarmModels:
    """Return this process's models at a place."""
    return WarmModels(place)
