"""The sample network: it is what train.py makes, of the data that scikit-learn ships, and as accurate as claimed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from serving import onnx_file
from tests.serving.servers import PROJECT

SAMPLE = PROJECT / "serving" / "samples" / "digits"


@pytest.fixture(scope="module")
def train() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_train", SAMPLE / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def predicted(path: Path, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    label, probabilities = session.run(["label", "probabilities"], {"pixels": pixels})
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert np.array_equal(probabilities.argmax(axis=1), label[:, 0])
    found: npt.NDArray[np.int64] = label[:, 0]
    return found


def test_accuracy_on_all_images_and_on_those_never_trained_on(train: ModuleType) -> None:
    pixels, labels, _, held = train.data()
    right = predicted(SAMPLE / "digits.onnx", pixels) == labels
    assert right.mean() >= 0.97
    assert right[held].mean() >= 0.97


def test_features_are_the_data_set(train: ModuleType) -> None:
    pixels, labels, seen, held = train.data()
    with np.load(SAMPLE / "features.npz") as file:
        assert [str(i) for i in file["ids"]] == [str(i) for i in range(1797)]
        assert np.array_equal(file["features"], pixels)
        assert np.array_equal(file["labels"], labels)
    assert set(seen) | set(held) == set(range(1797))
    assert not set(seen) & set(held)


def test_the_network_takes_and_gives_what_it_says() -> None:
    found = onnx_file.read(SAMPLE / "digits.onnx", "as committed")
    assert [(p.name, p.datatype, p.dims) for p in (*found.inputs, *found.outputs)] == [
        ("pixels", "FP32", (64,)),
        ("label", "INT64", (1,)),
        ("probabilities", "FP32", (10,)),
    ]
    assert found.batched


@pytest.mark.slow
def test_training_again_gives_the_same_predictions(train: ModuleType, tmp_path: Path) -> None:
    """The committed file is the script's, not somebody's."""
    model, scores = train.train((256, 128), 60)
    path = tmp_path / "again.onnx"
    path.write_bytes(model.SerializeToString())
    pixels, labels, _, held = train.data()
    again, committed = predicted(path, pixels), predicted(SAMPLE / "digits.onnx", pixels)
    assert (again == committed).mean() > 0.995  # another processor may round another way
    assert scores["held out"] == pytest.approx(float((again == labels)[held].mean()))


@pytest.mark.slow
def test_a_larger_network_can_be_made(train: ModuleType, tmp_path: Path) -> None:
    model, scores = train.train((512, 512), 3)
    path = tmp_path / "larger.onnx"
    path.write_bytes(model.SerializeToString())
    assert path.stat().st_size > 4 * (SAMPLE / "digits.onnx").stat().st_size
    assert scores["held out"] > 0.9
