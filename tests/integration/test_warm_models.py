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
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.prediction import Explanation, ModelInput, Prediction
from dicom_node.inference.workers.device import choose_device
from dicom_node.inference.workers.place import ComputePlace, gpu_count, may_use_gpu, worker_count
from dicom_node.inference.workers.precision import MixedPrecision, in_precision, multiplies_in_bfloat16
from dicom_node.inference.workers.warm import WarmModels
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
