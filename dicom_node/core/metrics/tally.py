"""The counts of one process, by the table of metrics: whoever does a thing counts it here.

Values of labels that others choose are held against what the settings name. What is not known has one word for all of
them: no peer can make the node keep ever more series, and no name of a patient gets out as a label.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dicom_node.core.metrics.table import BY_NAME, Metric, MetricKind
from dicom_node.core.reasons import REASONS

#: What stands for a value that is not known.
_UNKNOWN = {"peer": "unknown", "model": "other", "destination": "other", "reason": "other",
            "message": "other", "method": "other"}  # fmt: skip
#: Why associations are refused, beside why studies are.
ASSOCIATION_REASONS = frozenset({
    "unknown-caller", "unknown-called", "unknown-user", "too-many", "disk", "malformed", "too-slow", "handshake",
    "worn-out",
})  # fmt: skip
_REASONS = frozenset(one.code for one in REASONS) | {"", "ANALYSIS_FAILED"} | ASSOCIATION_REASONS
#: Types of HL7 messages, and what may be asked of the API: others are what strangers think of.
_MESSAGES = frozenset({"ADT", "OMI", "ORM", "ORU"})
_METHODS = frozenset({"DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"})

Labels = tuple[str, ...]


def _known_anywhere() -> dict[str, frozenset[str]]:
    return {"reason": _REASONS, "message": _MESSAGES, "method": _METHODS}


@dataclass(slots=True)
class Distribution:
    """How many values lie in each bucket (the last one is above all bounds), and their sum."""

    counts: list[int]
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Count:
    """By how much a counter has grown, or what a gauge is now, for the process that tells others of it."""

    metric: str
    labels: Labels
    amount: float


@dataclass(slots=True)
class Tally:
    """Counts, gauges and distributions of one process. Thread-safe; never raises for what a label holds."""

    _known: dict[str, frozenset[str]] = field(default_factory=_known_anywhere)
    _numbers: dict[tuple[str, Labels], float] = field(default_factory=dict)
    _distributions: dict[tuple[str, Labels], Distribution] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def allow(self, label: str, values: Iterable[str]) -> None:
        """Let a label have these values from now on, besides the word for all others."""
        self._known[label] = frozenset(values)

    def count(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Let a counter grow; by 0 to have it there before the first time."""
        self._add(metric, self.labels_of(metric, labels), amount)

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Let a gauge be this."""
        key = metric.name, self.labels_of(metric, labels)
        with self._lock:
            self._numbers[key] = value

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Sort a value into a histogram; less than nothing, which a clock set back may make, is nothing."""
        key, value = (metric.name, self.labels_of(metric, labels)), max(value, 0.0)
        with self._lock:
            known = self._distributions.get(key)
            if known is None:
                known = self._distributions[key] = Distribution([0] * (len(metric.buckets) + 1))
            known.counts[bisect_left(metric.buckets, value)] += 1
            known.total += value

    def forget(self, metric: Metric, **labels: str) -> None:
        """Tell a gauge no more: what it was of is gone, and may be known no more."""
        as_it_was = tuple(labels[label] for label in metric.labels)
        with self._lock:
            for values in (as_it_was, self.labels_of(metric, labels)):
                self._numbers.pop((metric.name, values), None)

    def labels_of(self, metric: Metric, labels: Mapping[str, str]) -> Labels:
        """Return the values of a metric's labels in their order, each as it may be told."""
        return tuple(self.told(label, labels[label]) for label in metric.labels)

    def told(self, label: str, value: str) -> str:
        """Return a value of a label as it may be told."""
        if label not in _UNKNOWN or value in self._known.get(label, ()):
            return value
        return _UNKNOWN[label]

    # --- between processes ---

    def drain(self) -> Sequence[Count]:
        """Return what was counted since the last time, and what gauges are."""
        with self._lock:
            found = [Count(name, labels, amount) for (name, labels), amount in self._numbers.items()]
            for one in found:
                if BY_NAME[one.metric].kind is MetricKind.COUNTER:
                    del self._numbers[one.metric, one.labels]
        return found

    def take(self, counts: Iterable[Count]) -> None:
        """Take what another process of the node has counted."""
        for one in counts:
            metric = BY_NAME[one.metric]
            labels = dict(zip(metric.labels, one.labels, strict=True))
            if metric.kind is MetricKind.GAUGE:
                self.set(metric, one.amount, **labels)
            else:
                self.count(metric, one.amount, **labels)

    # --- for whoever tells it ---

    def numbers(self) -> Mapping[tuple[str, Labels], float]:
        """Return counters and gauges as they are."""
        with self._lock:
            return dict(self._numbers)

    def distributions(self) -> Mapping[tuple[str, Labels], Distribution]:
        """Return histograms as they are."""
        with self._lock:
            return {key: Distribution(list(one.counts), one.total) for key, one in self._distributions.items()}

    def _add(self, metric: Metric, labels: Labels, amount: float) -> None:
        key = metric.name, labels
        with self._lock:
            self._numbers[key] = self._numbers.get(key, 0.0) + amount


#: That of this process.
TALLY = Tally()
