"""From checkpoints to one ONNX file: the three networks as branches of one graph, with the words that they know."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from tools.picture_model.compose import load_composer
from tools.picture_model.find import load_finder
from tools.picture_model.model import BEGIN, BOX, SEEN
from tools.picture_model.outline import load_outlines
from tools.picture_model.scenes import SHAPES
from tools.picture_model.slots import COLUMNS, ROWS
from tools.picture_model.words import LENGTH, vocabulary

COMPOSE, OUTLINE, FIND = range(3)
"""What the input `task` asks for."""
OPSET = 18
HALVED_FROM = 512
"""Weights of this many numbers or more are kept as 16-bit floats: half the file, and computed with 32 bits all the same."""

INPUTS: dict[str, tuple[int, list[int | str]]] = {
    "task": (TensorProto.INT64, []),
    "words": (TensorProto.INT64, ["batch", "count"]),
    "noisy": (TensorProto.FLOAT, ["batch", ROWS, COLUMNS]),
    "time": (TensorProto.FLOAT, ["batch"]),
    "source": (TensorProto.FLOAT, ["batch", ROWS, COLUMNS]),
    "given": (TensorProto.FLOAT, ["batch"]),
    "box": (TensorProto.FLOAT, ["batch", BOX]),
    "points": (TensorProto.FLOAT, ["points", 2]),
    "shape": (TensorProto.FLOAT, [1, len(SHAPES)]),
    "picture": (TensorProto.FLOAT, [1, 3, SEEN, SEEN]),
}


def export(folder: Path, target: Path) -> int:
    """Writes the checkpoints in ``folder`` as one ONNX file and returns its size in bytes.

    ``target`` is replaced in one step, so a reader finds the old file or the new one and never a part.
    """
    batch, count, points = (
        torch.export.Dim(name, min=1, max=most) for name, most in (("batch", 8), ("count", LENGTH + 1), ("points", 1 << 20))
    )
    composer = _graph(
        load_composer(folder), ["words", "noisy", "time", "source", "given", "box"],
        (
            torch.tensor([[BEGIN, 2, 3], [BEGIN, 0, 0]]), torch.zeros(2, ROWS, COLUMNS), torch.zeros(2),
            torch.zeros(2, ROWS, COLUMNS), torch.zeros(2), torch.zeros(2, BOX),
        ),
        ({0: batch, 1: count}, {0: batch}, {0: batch}, {0: batch}, {0: batch}, {0: batch}),
    )  # fmt: skip
    outlines = _graph(
        load_outlines(folder), ["points", "shape"], (torch.zeros(7, 2), torch.zeros(1, len(SHAPES))), ({0: points}, None)
    )
    finder = _graph(load_finder(folder), ["picture"], (torch.zeros(1, 3, SEEN, SEEN),), (None,))
    later = _if("is_outline", OUTLINE, _branch(outlines, "outlines"), _branch(finder, "finder"), "else_result")
    nodes, constants = _if("is_compose", COMPOSE, _branch(composer, "composer"), _as_graph(*later, "else"), "result")
    graph = helper.make_graph(
        nodes, "aos-pictures", [helper.make_tensor_value_info(name, *kind) for name, kind in INPUTS.items()],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, ["numbers"])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9, producer_name="aos")
    facts = {
        "vocabulary": vocabulary(),
        "begin": BEGIN,
        "length": LENGTH,
        "shapes": SHAPES,
        "rows": ROWS,
        "columns": COLUMNS,
        "seen": SEEN,
    }
    helper.set_model_props(model, {"aos.pictures": json.dumps(facts)})
    onnx.checker.check_model(model)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(model.SerializeToString(deterministic=True))
    part.replace(target)
    return target.stat().st_size


class _Flat(torch.nn.Module):
    """A network with one output, a line of numbers: branches of a graph must agree on it."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
        result = self.inner(*arguments)
        return torch.cat([one.flatten() for one in (result if isinstance(result, tuple) else (result,))])


def _graph(model: torch.nn.Module, names: list[str], arguments: tuple[torch.Tensor, ...], sizes: Any) -> onnx.GraphProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.onnx"
        torch.onnx.export(
            _Flat(model), arguments, path, input_names=names, output_names=["result"], opset_version=OPSET, dynamo=True,
            dynamic_shapes=(sizes,), external_data=False, verbose=False,
        )  # fmt: skip
        return onnx.load(path).graph


def _branch(graph: onnx.GraphProto, prefix: str) -> onnx.GraphProto:
    """The graph as a branch: it reads the whole model's inputs by name, and every other name is its own."""
    outer = {one.name for one in graph.input}

    def own(name: str) -> str:
        return name if not name or name in outer else f"{prefix}/{name}"

    weights, casts = [], []
    for weight in graph.initializer:
        array, name = numpy_helper.to_array(weight), own(weight.name)
        if array.dtype == np.float32 and array.size >= HALVED_FROM:
            weights.append(numpy_helper.from_array(array.astype(np.float16), f"{name}/half"))
            casts.append(helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
        else:
            weights.append(numpy_helper.from_array(array, name))
    for node in graph.node:
        node.name = own(node.name)
        node.input[:] = [own(name) for name in node.input]
        node.output[:] = [own(name) for name in node.output]
        # what an exporter says of its own source has no place in the file
        del node.metadata_props[:]
        node.doc_string = ""
    outputs = [helper.make_tensor_value_info(own(one.name), TensorProto.FLOAT, ["numbers"]) for one in graph.output]
    return helper.make_graph([*casts, *graph.node], prefix, [], outputs, weights)


def _if(
    name: str, task: int, then: onnx.GraphProto, otherwise: onnx.GraphProto, result: str
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    number = numpy_helper.from_array(np.array(task, np.int64), f"{name}/task")
    equal = helper.make_node("Equal", ["task", f"{name}/task"], [name])
    return [equal, helper.make_node("If", [name], [result], then_branch=then, else_branch=otherwise)], [number]


def _as_graph(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], name: str) -> onnx.GraphProto:
    return helper.make_graph(
        nodes, name, [], [helper.make_tensor_value_info("else_result", TensorProto.FLOAT, ["numbers"])], constants
    )
