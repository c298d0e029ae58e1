"""The remote runtime against a server that runs a real network: what goes, what comes, what is refused."""

from __future__ import annotations

import ssl
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dicom_node.core.errors import ModelUnavailable, SettingsError
from dicom_node.inference.answers.inputs import shared_attributes
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.prediction import ModelInput
from dicom_node.inference.runtimes import open_inference
from tests.peers.certificates import make_certificates
from tests.support.models.inference_server import Served, serving
from tests.support.models.model_folders import CLASSES, write_card
from tests.support.models.tiny_networks import IMAGE_24, SIZE, classifier, plain_probabilities, segmenter
from tests.support.studies.data_factories import small_chest_ct

SHAPE = [-1, 1, SIZE, SIZE]
OUTPUT = '\n[output]\nname = "answer"\nactivation = "softmax"\n'


def card_for(folder: Path, url: str, server: str = "", more: str = IMAGE_24 + OUTPUT, **others: str) -> ModelCard:
    table = f'\n[server]\nurl = "{url}"\nmodel = "tiny"\n{server}\n'
    return load_card(write_card(folder, "open-inference", more=table + more + CLASSES, **others))


def images(count: int = 3) -> list[ModelInput]:
    random = np.random.default_rng(5)
    return [ModelInput(values=random.random((1, 40, 56), dtype=np.float32)) for _ in range(count)]


@pytest.mark.parametrize("datatype", ["FP32", "FP16"])
@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "json"])
def test_the_server_s_network_answers_as_it_does_here(binary: bool, datatype: str, tmp_path: Path) -> None:
    served = Served(classifier(), SHAPE, binary=binary, datatype=datatype)
    with serving(served) as url:
        model = open_inference.load(card_for(tmp_path / "model", url), "cpu")
        found = model.predict(images())

    assert len(served.requests) == 1
    assert ("data" in served.messages[0]["inputs"][0]) != binary
    for one, prediction in zip(images(), found, strict=True):
        expected = plain_probabilities(classifier(), one.values[0])
        assert prediction.scores == pytest.approx(expected, abs=1e-5 if datatype == "FP32" else 5e-3)


def test_bytes_are_sent_only_where_the_card_allows_them(tmp_path: Path) -> None:
    served = Served(classifier(), SHAPE)
    with serving(served) as url:
        open_inference.load(card_for(tmp_path / "model", url, "binary = false"), "cpu").predict(images(1))

    assert len(served.messages[0]["inputs"][0]["data"]) == SIZE * SIZE


def test_a_segmentation_of_a_volume_comes_back_on_its_voxels(tmp_path: Path) -> None:
    more = '\n[preprocessing]\norientation = "RAS"\n[output]\nname = "answer"\nactivation = "softmax"\n'
    mask = np.zeros((6, 10, 12), bool)
    mask[1:3, 2:5, 7:11] = True
    one = ModelInput(values=mask[None].astype(np.float32), affine_lps_mm=np.diag([0.7, 0.7, 3.0, 1.0]))
    with serving(Served(segmenter(3), [-1, 1, -1, -1, -1])) as url:
        model = open_inference.load(card_for(tmp_path / "model", url, more=more, task="segmentation"), "cpu")
        found = model.predict([one])[0]

    assert found.labels is not None
    assert np.array_equal(found.labels, mask.astype(np.uint8))


def test_only_pixels_and_declared_attributes_leave(tmp_path: Path) -> None:
    header = small_chest_ct()[0][0]
    header.PatientName, header.PatientID, header.AccessionNumber = "Secret^Name", "SECRET-ID", "SECRET-ACC"
    header.PatientAge, header.PatientSex, header.Modality = "093Y", "F", "CT"
    served = Served(classifier(), SHAPE)
    with serving(served) as url:
        card = card_for(tmp_path / "model", url, 'attributes = ["PatientAge", "PatientSex", "ViewPosition"]')
        given = [
            ModelInput(values=one.values, attributes=shared_attributes(card, header) | {"PatientID": "SECRET-ID"})
            for one in images(2)
        ]
        open_inference.load(card, "cpu").predict(given)

    assert len(served.messages) == 2
    for message, body, headers in zip(served.messages, served.requests, served.headers, strict=True):
        assert message["parameters"] == {"PatientAge": "090Y", "PatientSex": "F"}
        assert message.keys() == {"id", "inputs", "outputs", "parameters"}
        assert message["inputs"][0].keys() == {"name", "shape", "datatype", "parameters"}
        told = body + repr(headers).encode()
        secrets = (b"Secret", b"SECRET", header.SOPInstanceUID.encode(), header.StudyInstanceUID.encode())
        assert not any(secret in told for secret in secrets)
    assert served.messages[0]["id"] != served.messages[1]["id"]


def test_a_card_that_declares_none_sends_no_attribute(tmp_path: Path) -> None:
    served = Served(classifier(), SHAPE)
    with serving(served) as url:
        card = card_for(tmp_path / "model", url)
        one = ModelInput(values=images(1)[0].values, attributes={"PatientSex": "F"})
        open_inference.load(card, "cpu").predict([one])

    assert shared_attributes(card, small_chest_ct()[0][0]) == {}
    assert "parameters" not in served.messages[0]


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID"])
def test_an_attribute_that_tells_who_it_is_cannot_be_declared(keyword: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"names {keyword}; only"):
        card_for(tmp_path / "model", "https://server.example", f'attributes = ["{keyword}"]')


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://server.example", "without TLS"),
        ("https://user:word@server.example", "without user, password"),
        ("ftp://server.example", "must be http"),
        ("https://server.example/?key=word", "without user, password or query"),
    ],
)
def test_an_address_that_would_give_something_away_is_refused(url: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=told):
        card_for(tmp_path / "model", url)


def test_the_server_is_known_by_its_certificate_and_the_node_by_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = make_certificates(tmp_path / "tls")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.server.certificate, certificates.server.private_key)
    (tmp_path / "token").write_text("word-of-the-node\n")
    monkeypatch.setenv("REMOTE_TOKEN", "word-of-the-node")
    trusted = f'ca_file = "{certificates.ca}"\n'
    with serving(Served(classifier(), SHAPE, token="word-of-the-node"), tls) as url:
        for number, secret in enumerate((f'token_file = "{tmp_path / "token"}"', 'token_env = "REMOTE_TOKEN"')):
            card = card_for(tmp_path / f"model{number}", url, trusted + secret)
            assert len(open_inference.load(card, "cpu").predict(images(2))) == 2
        with pytest.raises(ModelUnavailable, match=r"401 Unauthorized: no\. Check token_env or token_file"):
            open_inference.load(card_for(tmp_path / "nameless", url, trusted), "cpu")
        with pytest.raises(ModelUnavailable, match=r"cannot be reached .*CERTIFICATE_VERIFY_FAILED"):
            open_inference.load(card_for(tmp_path / "unknown", url), "cpu")


@pytest.mark.parametrize("secret", ['token_env = "NO_SUCH_TOKEN"', 'token_file = "/no/such/file"'])
def test_a_token_that_is_not_there_is_told_without_asking_the_server(secret: str, tmp_path: Path) -> None:
    served = Served(classifier(), SHAPE)
    with serving(served) as url, pytest.raises(ModelUnavailable, match="no token for its server in"):
        open_inference.load(card_for(tmp_path / "model", url, secret), "cpu")


def test_a_slow_server_costs_no_more_than_the_time_allowed(tmp_path: Path) -> None:
    with serving(Served(classifier(), SHAPE, delay_s=60)) as url:
        # Long enough for the questions that are answered at once, on a busy machine, too.
        model = open_inference.load(card_for(tmp_path / "model", url, "timeout_s = 5"), "cpu")
        with pytest.raises(ModelUnavailable, match=r"within 5 s\. Raise timeout_s"):
            model.predict(images(1))


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with serving(Served(classifier(), SHAPE)) as url:
        pass

    with pytest.raises(ModelUnavailable, match=r"cannot be reached .* Check url"):
        open_inference.load(card_for(tmp_path / "model", url), "cpu")


def test_images_follow_no_redirect(tmp_path: Path) -> None:
    elsewhere = Served(classifier(), SHAPE)
    with (
        serving(elsewhere) as other,
        serving(Served(classifier(), SHAPE, redirect_to=other)) as url,
        pytest.raises(ModelUnavailable, match="307 Temporary Redirect"),
    ):
        open_inference.load(card_for(tmp_path / "model", url), "cpu")
    assert not elsewhere.requests


def test_no_proxy_of_the_environment_sees_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving(Served(classifier(), SHAPE)) as url:
        assert open_inference.load(card_for(tmp_path / "model", url), "cpu").predict(images(1))


@pytest.mark.parametrize(
    ("served", "told"),
    [
        (Served(classifier(), SHAPE, ready=False), "503 Service Unavailable: still loading. See its log"),
        (Served(classifier(), SHAPE, broken="page"), "did not answer in JSON"),
        (Served(classifier(), SHAPE, datatype="UINT8"), "first UINT8 of shape"),
        (Served(classifier(), [-1, SIZE * SIZE]), "with 4 dimensions"),
    ],
    ids=["not-ready", "no-json", "type", "shape"],
)
def test_a_server_that_cannot_serve_the_card_is_refused_at_once(served: Served, told: str, tmp_path: Path) -> None:
    with serving(served) as url, pytest.raises(ModelUnavailable, match=told):
        open_inference.load(card_for(tmp_path / "model", url), "cpu")


def test_a_model_or_version_the_server_lacks_is_told(tmp_path: Path) -> None:
    with serving(Served(classifier(), SHAPE)) as url:
        assert open_inference.load(card_for(tmp_path / "three", url, 'model_version = "3"'), "cpu").predict(images(1))
        with pytest.raises(ModelUnavailable, match=r"404 Not Found: unknown model .* Check url, model and"):
            open_inference.load(card_for(tmp_path / "four", url, 'model_version = "4"'), "cpu")


def test_a_tensor_the_server_lacks_is_told_with_those_it_has(tmp_path: Path) -> None:
    with serving(Served(classifier(), SHAPE)) as url:
        wrong = IMAGE_24 + OUTPUT.replace('"answer"', '"logits"')
        with pytest.raises(ModelUnavailable, match="outputs are mean, answer, not logits"):
            open_inference.load(card_for(tmp_path / "model", url, more=wrong), "cpu")


def test_half_an_answer_is_no_answer(tmp_path: Path) -> None:
    with serving(Served(classifier(), SHAPE, broken="short")) as url:
        model = open_inference.load(card_for(tmp_path / "model", url), "cpu")
        with pytest.raises(ModelUnavailable, match="without a usable tensor answer"):
            model.predict(images(1))


def test_occlusion_explains_what_runs_elsewhere(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 2)).eval()
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.zero_()
        weights = network[1].weight[1].reshape(SIZE, SIZE)
        weights[4:8, 14:20] = 0.3
    values = np.full((1, 48, 48), 0.4, np.float32)
    values[0, 8:16, 28:40] = 1.0
    served = Served(network, SHAPE)
    with serving(served) as url:
        more = IMAGE_24.replace("batch = 4", "batch = 16") + OUTPUT + '\n[explain]\nmethod = "occlusion"\n'
        found = open_inference.load(card_for(tmp_path / "model", url, more=more), "cpu").explain(
            ModelInput(values=values), 1
        )

    assert found is not None
    row, column = np.unravel_index(int(found.map.argmax()), found.map.shape)
    assert 6 <= row < 18
    assert 26 <= column < 42
    assert len(served.requests) == 10
