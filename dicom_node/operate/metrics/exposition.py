"""Metrics as text, in the format of Prometheus or of OpenMetrics, whichever is asked for."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dicom_node.core.metrics.table import METRICS, Metric, MetricKind
from dicom_node.core.metrics.tally import TALLY, Count, Distribution, Labels, Tally

_ByMetric = Mapping[str, Sequence[tuple[Labels, float]]]


class Exposition(Collector):
    """Everything that this process can tell: what it has counted, and what is looked at now. Thread-safe."""

    def __init__(self, look: Callable[[], Iterable[Count]] = tuple, tally: Tally = TALLY) -> None:
        self._look = look
        self._tally = tally
        self._process = ProcessCollector(registry=None)
        self._turn = threading.Lock()

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type, by what the Accept header asks for; one scrape at a time."""
        encode, media_type = choose_encoder(accept)
        with self._turn:
            return encode(self), media_type

    def collect(self) -> Iterator[Family]:
        """Yield every metric of the table, also where there is nothing to tell yet."""
        numbers: defaultdict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for (name, labels), value in self._tally.numbers().items():
            numbers[name].append((labels, value))
        for one in self._look():
            numbers[one.metric].append((one.labels, one.amount))
        distributions = self._tally.distributions()
        for metric in METRICS:
            yield _family(metric, numbers, distributions)
        yield from self._process.collect()


def _family(metric: Metric, numbers: _ByMetric, found: Mapping[tuple[str, Labels], Distribution]) -> Family:
    if metric.kind is MetricKind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for (name, labels), one in found.items():
            if name == metric.name:
                histogram.add_metric(labels, _buckets(metric, one), one.total)
        return histogram
    kind = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in numbers.get(metric.name, ()):
        family.add_metric(labels, value)
    return family


def _buckets(metric: Metric, found: Distribution) -> list[tuple[str, float]]:
    bounds = [*(f"{float(one)}" for one in metric.buckets), "+Inf"]
    return list(zip(bounds, map(float, accumulate(found.counts)), strict=True))
