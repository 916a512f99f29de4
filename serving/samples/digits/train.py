"""Trains the sample network on scikit-learn's handwritten digits and writes digits.onnx and features.npz beside itself.

    python serving/samples/digits/train.py                                  # the committed sample
    python serving/samples/digits/train.py --hidden 2048,2048 --out big.onnx   # a larger network, for benchmarks

Deterministic: same versions of numpy and scikit-learn, same files. A quarter of the images is held out of training.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
SEED = 7
HELD_OUT = 0.25
ALPHA = 0.01  # weight decay; the first value tried, so nothing was chosen on the held-out images

Floats = npt.NDArray[np.float32]


def network(scaler: StandardScaler, mlp: MLPClassifier) -> onnx.ModelProto:
    """pixels FP32 [N,64] -> label INT64 [N,1] and probabilities FP32 [N,10]."""
    constants: dict[str, npt.NDArray[np.float32]] = {
        "mean": scaler.mean_.astype(np.float32),
        "scale": scaler.scale_.astype(np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["h0"]),
    ]
    last = len(mlp.coefs_) - 1
    for i, (weights, bias) in enumerate(zip(mlp.coefs_, mlp.intercepts_, strict=True)):
        constants[f"w{i}"], constants[f"b{i}"] = weights.astype(np.float32), bias.astype(np.float32)
        out = "logits" if i == last else f"a{i}"
        nodes.append(helper.make_node("Gemm", [f"h{i}", f"w{i}", f"b{i}"], [out]))
        if i < last:
            nodes.append(helper.make_node("Relu", [out], [f"h{i + 1}"]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    nodes.append(helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 64])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N", 1]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10]),
        ],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="slipway")
    onnx.checker.check_model(model)
    return model


def data() -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pixels and labels of all images, and the indices of those to train on and of those held out."""
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    seen, held = train_test_split(np.arange(len(labels)), test_size=HELD_OUT, random_state=SEED, stratify=labels)
    return digits.data.astype(np.float32), labels, seen, held


def train(hidden: tuple[int, ...], epochs: int) -> tuple[onnx.ModelProto, dict[str, float]]:
    """The network, and its accuracy by part of the data."""
    pixels, labels, seen, held = data()
    scaler = StandardScaler().fit(pixels[seen])
    scaler.scale_ = np.maximum(
        scaler.scale_, 1.0
    )  # border pixels hardly vary: dividing by almost 0 would amplify noise
    mlp = MLPClassifier(hidden, alpha=ALPHA, max_iter=epochs, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few epochs are meant for the large network
        mlp.fit(scaler.transform(pixels[seen]), labels[seen])

    parts = {"held out": held, "trained on": seen, "all": np.arange(len(labels))}
    scores = {part: float(mlp.score(scaler.transform(pixels[i]), labels[i])) for part, i in parts.items()}
    return network(scaler, mlp), scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", default="256,128", help="sizes of the hidden layers")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=HERE / "digits.onnx")
    args = parser.parse_args()
    model, scores = train(tuple(int(n) for n in args.hidden.split(",")), args.epochs)
    args.out.write_bytes(model.SerializeToString(deterministic=True))
    for part, score in scores.items():
        print(f"accuracy, {part}: {score:.4f}")
    print(f"{args.out}: {args.out.stat().st_size} bytes")
    if args.out.parent == HERE:
        pixels, labels, _, _ = data()
        ids = np.array([str(i) for i in range(len(labels))])
        np.savez_compressed(HERE / "features.npz", ids=ids, features=pixels, labels=labels)


if __name__ == "__main__":
    main()
