"""Loaded models stay warm by digest and leave by least recent use; real files, real tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_node.core.errors import ModelUnavailable
from dicom_node.inference.cards.card import SHIPPED_MODELS, ModelCard, load_card
from dicom_node.inference.prediction import Explanation, ModelInput, Prediction
from dicom_node.inference.runtimes.monai_bundle.model import load as load_bundle
from dicom_node.inference.workers.device import available_ram_bytes, choose_device, free_bytes
from dicom_node.inference.workers.place import ComputePlace, gpu_count, may_use_gpu, worker_count
from dicom_node.inference.workers.precision import MixedPrecision, in_precision, multiplies_in_bfloat16
from dicom_node.inference.workers.warm import MemoryFigures, WarmModels
from dicom_node.sandbox.host import resident_bytes

MEGABYTE = 1 << 20


@dataclass
class Weights:
    """A model that is nothing but its weights."""

    values: torch.Tensor
    batch_limit: int = 1
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.size_bytes = self.values.nbytes

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        return [Prediction() for _ in inputs]

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        return Explanation(map=one.values[output_index], method="the input itself")


class Loader:
    """Reads a card's weights file as a tensor and counts how often."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def __call__(self, card: ModelCard, device: str) -> Weights:
        self.loaded.append(card.name)
        assert card.weights_file is not None
        return Weights(torch.from_numpy(np.fromfile(card.weights_file, dtype=np.uint8)).to(device))


CARD = """
name = "{name}"
version = "1"
manufacturer = "test"
runtime = "python"
entry_point = "dicom_node.inference.lungs.density:analyse"
task = "classification"
intended_use = "tests"
limits = "everything"
calibrated = false
[weights]
file = "weights.bin"
sha256 = ""
"""


def made_card(folder: Path, name: str, megabytes: float = 1) -> ModelCard:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "weights.bin").write_bytes(name.encode() * int(megabytes * MEGABYTE / len(name)))
    digest = sha256((folder / name / "weights.bin").read_bytes()).hexdigest()
    card = CARD.format(name=name).replace('sha256 = ""', f'sha256 = "{digest}"')
    (folder / name / "model_card.toml").write_text(card)
    return load_card(folder / name)


def on_cpu(budget_mb: int) -> WarmModels:
    return WarmModels(ComputePlace(device="cpu", model_budget_mb=budget_mb))


def test_a_model_is_loaded_once_and_stays(tmp_path: Path) -> None:
    models, load = on_cpu(1000), Loader()
    made_card(tmp_path, "a")

    first = models.get(load_card(tmp_path / "a"), load)
    second = models.get(load_card(tmp_path / "a"), load)

    assert first is second
    assert load.loaded == ["a"]


def test_a_sites_own_parameters_are_a_model_beside_the_other(tmp_path: Path) -> None:
    models, load = on_cpu(1000), Loader()
    card = made_card(tmp_path, "a")
    tuned = replace(card, parameters={"temperature": 2.0})

    first, other = models.get(card, load), models.get(tuned, load)

    assert first is not other
    assert (models.get(card, load), models.get(tuned, load)) == (first, other)
    assert load.loaded == ["a", "a"]


def test_altered_files_are_another_model_and_the_old_one_leaves(tmp_path: Path) -> None:
    models, load = on_cpu(1000), Loader()
    old = models.get(made_card(tmp_path, "a"), load)

    new = models.get(made_card(tmp_path, "a", megabytes=2), load)

    assert new is not old
    assert len(models.sizes_bytes) == 1


def test_a_model_whose_folder_is_gone_is_loaded_from_where_the_same_files_are_now(tmp_path: Path) -> None:
    models, load = on_cpu(1000), Loader()
    models.get(made_card(tmp_path, "a"), load)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a").rename(tmp_path / "elsewhere" / "a")

    models.get(load_card(tmp_path / "elsewhere" / "a"), load)

    assert load.loaded == ["a", "a"]
    assert len(models.sizes_bytes) == 1


def test_the_least_recently_used_leaves_when_the_budget_is_full(tmp_path: Path) -> None:
    models, load = on_cpu(25), Loader()
    a, b, c = (made_card(tmp_path, name, megabytes=10) for name in "abc")

    for card in (a, b, a, c):
        models.get(card, load)

    assert list(models.sizes_bytes) == [a.digest, c.digest]
    assert load.loaded == ["a", "b", "c"]


def test_what_leaves_gives_its_memory_back(tmp_path: Path) -> None:
    models, load = on_cpu(90), Loader()
    models.get(made_card(tmp_path, "a", megabytes=40), load)
    held = resident_bytes()
    for name in "bcdefgh":
        models.get(made_card(tmp_path, name, megabytes=40), load)

    assert resident_bytes() - held < 120 * MEGABYTE  # seven more were loaded, 280 MB


def test_a_model_larger_than_the_budget_still_runs_alone(tmp_path: Path) -> None:
    models, load = on_cpu(10), Loader()
    models.get(made_card(tmp_path, "small", megabytes=1), load)

    large = made_card(tmp_path, "large", megabytes=50)
    models.get(large, load)

    assert list(models.sizes_bytes) == [large.digest]


def test_the_size_that_counts_is_measured_when_the_model_understates_it(tmp_path: Path) -> None:
    class Understates(Loader):
        def __call__(self, card: ModelCard, device: str) -> Weights:
            model = super().__call__(card, device)
            model.size_bytes = 1
            return model

    models, card = on_cpu(1000), made_card(tmp_path, "a", megabytes=60)
    # 250 MB in pieces that the C library keeps for the next to come, since something behind them is still in use.
    kept_for_reuse = [bytes(1 << 16) for _ in range(4000)]
    in_use = bytes(1 << 16)
    del kept_for_reuse
    models.get(card, Understates())
    del in_use

    assert models.sizes_bytes[card.digest] > 40 * MEGABYTE


def test_files_that_change_while_they_are_loaded_are_refused(tmp_path: Path) -> None:
    class Slow(Loader):
        def __call__(self, card: ModelCard, device: str) -> Weights:
            model = super().__call__(card, device)
            made_card(tmp_path, "a", megabytes=3)
            return model

    models = on_cpu(1000)
    with pytest.raises(ModelUnavailable, match="changed while it was loaded"):
        models.get(made_card(tmp_path, "a"), Slow())

    assert models.sizes_bytes == {}


# --- a GPU and its RAM, by figures ---


class OnGpu:
    """A model that says where its weights are, and a GPU that knows what it holds."""

    size_bytes, batch_limit = 10 * MEGABYTE, 1

    def __init__(self, device: str) -> None:
        self.device = device

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        return [Prediction() for _ in inputs]

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        return Explanation(map=one.values[output_index], method="the input itself")

    def move(self, device: str) -> None:
        self.device = device


class Gpu:
    """Warm models on a GPU of so many megabytes, beside a RAM of which so many are free."""

    def __init__(self, folder: Path, *, gpu_mb: int, ram_mb: int, budget_mb: int = 1000) -> None:
        self.ram_mb, self._gpu_mb, self._folder = ram_mb, gpu_mb, folder
        self.loaded: dict[str, list[OnGpu]] = {}
        figures = MemoryFigures(held=lambda _: 0, free=self._free)
        self.models = WarmModels(ComputePlace(model_budget_mb=budget_mb), figures, "cuda:0")

    def use(self, name: str) -> OnGpu:
        folder = self._folder / name
        card = load_card(folder) if folder.is_dir() else made_card(self._folder, name, megabytes=10)
        found = self.models.get(card, self._load)
        assert isinstance(found, OnGpu)
        return found

    def _load(self, card: ModelCard, device: str) -> OnGpu:
        self.loaded.setdefault(card.name, []).append(OnGpu(device))
        return self.loaded[card.name][-1]

    def _free(self, device: str) -> int:
        here = [one for made in self.loaded.values() for one in made if one.device == device]
        return (self.ram_mb if device == "cpu" else self._gpu_mb - 10 * len(here)) * MEGABYTE


def test_a_model_leaves_the_gpu_for_the_ram_and_comes_back_without_its_files(tmp_path: Path) -> None:
    gpu = Gpu(tmp_path, gpu_mb=20, ram_mb=1000)
    first = gpu.use("a")
    gpu.use("b")

    gpu.use("c")

    assert (first.device, gpu.models.aside_bytes) == ("cpu", 10 * MEGABYTE)
    assert gpu.use("a") is first
    assert first.device == "cuda:0"
    assert {name: len(made) for name, made in gpu.loaded.items()} == {"a": 1, "b": 1, "c": 1}
    assert gpu.loaded["b"][0].device == "cpu"


def test_what_others_hold_on_the_gpu_counts_and_not_the_budget_alone(tmp_path: Path) -> None:
    gpu = Gpu(tmp_path, gpu_mb=12, ram_mb=1000)
    gpu.use("a")

    gpu.use("b")

    assert [gpu.loaded[name][0].device for name in "ab"] == ["cpu", "cuda:0"]


def test_without_ram_to_spare_it_is_dropped_and_read_again(tmp_path: Path) -> None:
    gpu = Gpu(tmp_path, gpu_mb=1000, ram_mb=19, budget_mb=15)
    gpu.use("a")
    gpu.use("b")

    gpu.use("a")

    assert gpu.models.aside_bytes == 0
    assert len(gpu.loaded["a"]) == 2


def test_ram_holds_no_more_than_the_budget_and_loses_the_least_recently_used(tmp_path: Path) -> None:
    gpu = Gpu(tmp_path, gpu_mb=1000, ram_mb=1000, budget_mb=25)
    for name in "abcde":
        gpu.use(name)

    assert len(gpu.models.sizes_bytes) == 2
    assert gpu.models.aside_bytes == 20 * MEGABYTE
    gpu.use("b")
    assert {name: len(made) for name, made in gpu.loaded.items()} == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}
    gpu.use("a")
    assert len(gpu.loaded["a"]) == 2


def test_a_model_that_cannot_move_is_dropped(tmp_path: Path) -> None:
    models = WarmModels(ComputePlace(model_budget_mb=15), MemoryFigures(lambda _: 0, lambda _: 1 << 40), "cuda:0")
    load = Loader()

    for name in "aba":
        models.get(made_card(tmp_path, name, megabytes=10), lambda card, _: load(card, "cpu"))

    assert load.loaded == ["a", "b", "a"]


def test_free_ram_is_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       100 kB\nMemAvailable:    64 kB\n")

    assert available_ram_bytes(tmp_path / "meminfo") == 65536
    assert free_bytes("cpu") > MEGABYTE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_bundle_leaves_a_real_gpu_and_answers_the_same_when_it_is_back(tmp_path: Path) -> None:
    models = WarmModels(ComputePlace(device="cuda"), device="cuda:0")
    card = load_card(SHIPPED_MODELS / "cxr-pneumonia")
    given = ModelInput(values=np.random.default_rng(1).uniform(0, 1, (1, 224, 224)).astype(np.float32))
    (before,) = models.get(card, load_bundle).predict([given])

    models._evict(next(iter(models._kept)))

    assert models.aside_bytes > 0
    (after,) = models.get(card, load_bundle).predict([given])
    assert after.scores == pytest.approx(before.scores, abs=1e-5)


# --- device ---


def test_auto_takes_what_is_there() -> None:
    expected = "cuda:0" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"

    assert choose_device(ComputePlace()) == expected
    assert choose_device(ComputePlace(device="cpu")) == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("wanted", ["cuda", "cuda:1"])
def test_a_device_that_is_not_here_is_refused_with_a_way_out(wanted: str) -> None:
    with pytest.raises(ModelUnavailable, match='Set device = "auto"'):
        choose_device(ComputePlace(device=wanted))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_workers_are_spread_over_the_gpus() -> None:
    count = torch.cuda.device_count()
    chosen = [choose_device(ComputePlace(worker_number=n)) for n in range(count + 1)]

    assert chosen == [*(f"cuda:{n}" for n in range(count)), "cuda:0"]


def test_gpus_are_counted_by_the_drivers_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_count(tmp_path) == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_count(tmp_path) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_count(tmp_path) == 0


def test_a_node_without_a_gpu_has_one_worker_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert worker_count(0, "auto") == 1
    assert worker_count(3, "auto") == 3
    assert not may_use_gpu("auto")
    assert may_use_gpu("cuda:0")


# --- precision ---


def test_only_a_gpu_computes_in_mixed_precision_and_only_if_the_card_says_so() -> None:
    model = Weights(torch.zeros(3))

    assert in_precision(model, "mixed", "cpu") is model
    assert in_precision(model, "float32", "cuda:0") is model
    assert isinstance(in_precision(model, "mixed", "cuda:0"), MixedPrecision)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_mixed_precision_computes_in_half_and_answers_in_single() -> None:
    class Product(Weights):
        def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
            seen = self.values @ self.values
            assert seen.dtype == torch.float16
            return [Prediction(scores=seen[0].cpu().numpy()) for _ in inputs]

    answered = in_precision(Product(torch.eye(8, device="cuda")), "mixed", "cuda:0").predict(
        [ModelInput(values=np.zeros((1, 2, 2), np.float32))]
    )

    assert answered[0].scores is not None
    assert answered[0].scores.dtype == np.float32


class Product(Weights):
    """Remembers in which type torch multiplied."""

    seen: torch.dtype | None = None

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        product = self.values @ self.values
        self.seen = product.dtype
        return [Prediction(scores=product[0].float().cpu().numpy()) for _ in inputs]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_bfloat16_is_for_gpus_and_for_processors_that_multiply_in_it(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    if device == "cpu" and not multiplies_in_bfloat16():
        assert in_precision(Weights(torch.zeros(3)), "bfloat16", "cpu").predict([]) == []
        pytest.skip("this processor does not multiply in bfloat16")
    model = Product(torch.eye(8, device=device))

    (answered,) = in_precision(model, "bfloat16", device).predict([ModelInput(values=np.zeros((1, 2, 2), np.float32))])

    assert model.seen == torch.bfloat16
    assert answered.scores is not None
    assert answered.scores.dtype == np.float32
