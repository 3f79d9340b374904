"""Files of teams that somebody made to run code, write files, or take all memory: one line, and nothing happens."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lrensemble import UserError
from lrensemble.export.formats import read_module, write_module
from lrensemble.export.module import TeamModule
from lrensemble.export.operators import OPERATORS
from lrensemble.models import build_model

IMAGES = torch.linspace(0, 1, 3 * 64).reshape(3, 1, 8, 8)
GRAPH, CONFIG = "archive/models/model.json", "archive/data/weights/model_weights_config.json"
Entries = dict[str, bytes]


def team(*names: str, shape: tuple[int, int, int] = (1, 8, 8), **parameters: Any) -> TeamModule:
    torch.manual_seed(0)
    models = [build_model(name, input_shape=shape, num_classes=4, parameters=parameters) for name in names]
    ones, half = [1.0] * len(names), [0.5] * shape[0]
    return TeamModule(models, ones, "soft", ones, mean=half, std=half, shape=shape, classes=4)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Entries:
    path = tmp_path_factory.mktemp("team") / "team.pt2"
    write_module(team("mlp"), "torch", path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that a successful attack writes."""
    return tmp_path / "executed"


class Exploit:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({str(self.marker)!r}, 'w')",))


def write(path: Path, items: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # two entries of one name
        for name, data in items:
            archive.writestr(name, data)
    return path


def changed(entries: Entries, path: Path, change: Callable[[Any], object], name: str = GRAPH) -> Path:
    content = json.loads(entries[name])
    change(content)
    return write(path, list({**entries, name: json.dumps(content).encode()}.items()))


def renamed(entries: Entries, path: Path, old: str, new: str) -> Path:
    def text(data: bytes) -> bytes:
        return data.replace(json.dumps(old).encode(), json.dumps(new).encode())

    return write(path, [(n, text(d) if n.endswith(".json") else d) for n, d in entries.items()])


def refused(path: Path, why: str, format: str = "torch") -> None:
    with pytest.raises(UserError, match=why) as caught, torch.inference_mode():
        read_module(format, path)(IMAGES)
    assert "\n" not in str(caught.value)


def pickled(entries: Entries, marker: Path) -> Entries:
    """With the first weight as a pickle."""
    config = json.loads(entries[CONFIG])
    next(iter(config["config"].values())).update(use_pickle=True, path_name="weight_0")
    buffer = io.BytesIO()
    torch.save(Exploit(marker), buffer)
    return {**entries, CONFIG: json.dumps(config).encode(), "archive/data/weights/weight_0": buffer.getvalue()}


# What torch reads and what was checked


def test_two_entries_of_one_name(entries, marker):
    evil = pickled(entries, marker)
    rest = [(name, data) for name, data in evil.items() if name != CONFIG]
    items = [(CONFIG, evil[CONFIG]), *rest, (CONFIG, entries[CONFIG])]
    refused(write(marker.with_name("team.pt2"), items), r"it holds 'data/weights/model_weights_config.json' twice")
    assert not marker.exists()


def test_two_directories(entries, marker):
    """Python finds the second archive, torch the first: offsets count from the file's beginning."""
    good, evil = dict(entries), pickled(entries, marker)
    weight = "archive/data/weights/weight_0"
    for name in (CONFIG, weight):
        size = max(len(good[name]), len(evil[name]))
        good[name] = good[name].ljust(size, b" " if name == CONFIG else b"\0")
    fill = len(good[weight]) - len(evil[weight])
    good[weight + "9"], evil[weight + "9"] = b"", b"\0" * fill
    evil[CONFIG] = evil[CONFIG].ljust(len(good[CONFIG]))
    order = [GRAPH, *(name for name in good if name != GRAPH)]  # torch takes the folder from the first
    raw = []
    for some in (evil, good):
        path = write(marker.with_name("part"), [(name, some[name]) for name in order])
        raw.append(path.read_bytes())
    path = marker.with_name("team.pt2")
    path.write_bytes(raw[0][:-22] + raw[1])
    refused(path, "something stands before its first part")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("archive/data/constants/custom_obj_0", "it holds 'data/constants/custom_obj_0'"),
        ("archive/data/aotinductor/model/code.so", "it holds 'data/aotinductor"),
        ("archive/data/weights/model.pt", "it holds 'data/weights/model.pt'"),
        ("archive/models/other.json", "it holds 'models/other.json'"),
        ("archive/extra/note.txt", "it holds 'extra/note.txt'"),
        ("other/data/weights/weight_0", "two folders, one of them 'other'"),
    ],
)
def test_other_parts(entries, tmp_path, name, why):
    refused(write(tmp_path / "team.pt2", [*entries.items(), (name, b"x")]), why)


def test_a_compressed_part(entries, tmp_path):
    items = [*entries.items(), ("archive/data/weights/weight_77", b"\0" * 10_000_000)]
    refused(write(tmp_path / "team.pt2", items, zipfile.ZIP_DEFLATED), "is compressed")


def test_parts_that_overlap(entries, tmp_path):
    """One weight listed under many names: each is in the file, all together are not."""
    path = write(tmp_path / "team.pt2", list(entries.items()))
    archive = zipfile.ZipFile(path, "a")
    info = archive.getinfo("archive/data/weights/weight_0")
    for number in range(100, 100 + path.stat().st_size // info.file_size + 1):
        copy = zipfile.ZipInfo(f"archive/data/weights/weight_{number}")
        copy.header_offset, copy.file_size, copy.compress_size = info.header_offset, info.file_size, info.file_size
        copy.CRC = info.CRC
        archive.filelist.append(copy)
    archive._didModify = True
    archive.close()
    refused(path, "its parts are larger than the file")


# What the graph says


def test_an_operation_that_writes_a_file(entries, marker):
    def change(program: Any) -> None:
        graph = program["graph_module"]["graph"]
        meta = graph["tensor_values"][graph["outputs"][0]["as_tensor"]["name"]]
        graph["tensor_values"]["bytes"] = {
            **meta, "dtype": 1, "sizes": [{"as_int": 4}], "strides": [{"as_int": 1}]
        }  # fmt: skip
        graph["tensor_values"]["filled"] = graph["tensor_values"]["bytes"]
        graph["nodes"] = [
            node("from_file.default", "bytes", filename={"as_string": str(marker)}, shared={"as_bool": True},
                 size={"as_int": 4}, dtype={"as_scalar_type": 1}),
            node("fill_.Scalar", "filled", self={"as_tensor": {"name": "bytes"}}, value={"as_int": 65}),
            *graph["nodes"],
        ]  # fmt: skip

    refused(changed(entries, marker.with_name("team.pt2"), change), "one of its operations is 'torch.ops.aten.from_f")
    assert not marker.exists()


def node(operator: str, result: str, **arguments: Any) -> dict[str, Any]:
    inputs = [{"name": name, "arg": arg, "kind": 2 if name == "dtype" else 1} for name, arg in arguments.items()]
    outputs = [{"as_tensor": {"name": result}}]
    return {"target": f"torch.ops.aten.{operator}", "inputs": inputs, "outputs": outputs, "metadata": {}}


@pytest.mark.parametrize(
    "operator", ["from_file", "set_", "resize_", "as_strided", "empty", "item", "rand", "_local_scalar_dense", "save"]
)
def test_operations_that_are_not_of_tensors(operator):
    assert not [known for known in OPERATORS if known.startswith(f"torch.ops.aten.{operator}.")]


def test_no_operation_writes_elsewhere_or_makes_python_values():
    for name in OPERATORS:
        if name.startswith("torch.ops.aten.") and name != "torch.ops.aten.sym_size.int":
            packet, overload = name.removeprefix("torch.ops.aten.").split(".")
            schema = getattr(getattr(torch.ops.aten, packet), overload)._schema
            assert all("Tensor" in str(returned.type) for returned in schema.returns)
            assert not any(a.alias_info and a.alias_info.is_write for a in schema.arguments[1:])
            assert not any(str(a.type) == "Storage" or "file" in a.name for a in schema.arguments)


def test_names_are_no_code(entries, marker):
    """They stand in the Python code that torch makes of a graph."""
    path = marker.with_name("team.pt2")
    code = f"open({str(marker)!r}, 'w')"
    refused(renamed(entries, path, "rows", f"rows={code}"), "a name is")
    refused(renamed(entries, path, "relu", f"relu = {code}; relu"), "a name is")
    refused(renamed(entries, path, "members.0.1.weight", f'members_x"+str({code})+"'), "a weight's name is")
    refused(renamed(entries, path, "members.0.1.weight", "__class__.x"), "a weight's name is")
    refused(renamed(entries, path, "rows", "torch"), "a name is 'torch', which means something else")
    assert not marker.exists()


def test_how_it_is_called_is_not_read(entries, marker):
    def change(program: Any) -> None:
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        signature["forward_arg_names"] = [f"images=open({str(marker)!r}, 'w')"]
        signature["in_spec"] = '[1, {"type": "posix.system", "context": "null", "children_spec": []}]'

    with torch.inference_mode():
        found = read_module("torch", changed(entries, marker.with_name("team.pt2"), change))(IMAGES)
        assert torch.equal(found, team("mlp")(IMAGES))
    assert not marker.exists()


@pytest.mark.parametrize(
    "size",
    [
        "Symbol('s0', positive=True, integer=True)*9**9**9",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "__import__('os').system('x')",
        "().__class__",
        "Symbol('u999999999999')",
        "Symbol(Symbol('s0'))",
        "Integer('9')",
        "Mul(" * 90 + "1" + ")" * 90,
        "(" * 900 + "1" + ")" * 900,
        "lambda: 1",
    ],
)  # fmt: skip
def test_sizes_are_no_programs(entries, tmp_path, size):
    def change(program: Any) -> None:
        for tensor in program["graph_module"]["graph"]["tensor_values"].values():
            for one in tensor["sizes"]:
                if "as_expr" in one:
                    one["as_expr"]["expr_str"] = size
                    return

    refused(changed(entries, tmp_path / "team.pt2", change), "a size is|torch cannot make a module of it")


def test_symbols_that_torch_would_count_to(entries, tmp_path):
    def change(program: Any) -> None:
        program["range_constraints"]["u999999999999"] = {"min_val": 0, "max_val": None}

    refused(changed(entries, tmp_path / "team.pt2", change), "a size is 'u999999999999'")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("sizes", [{"as_int": 10**11}, {"as_int": 1}, {"as_int": 1}], "is larger than its file"),
        ("storage_offset", {"as_int": 10**6}, "is larger than its file"),
        ("strides", [{"as_int": -1}] * 3, "its strides"),
        ("sizes", [{"as_int": 2**70}] * 3, "a number is"),
        ("dtype", 99, "a value is 99"),
        ("device", {"type": "cuda", "index": 0}, "a value is 'cuda'"),
        ("layout", 1, "a value is 1"),
    ],
)
def test_weights_lie_in_their_files(entries, tmp_path, key, value, why):
    def change(config: Any) -> None:
        config["config"]["mean"]["tensor_meta"][key] = value

    refused(changed(entries, tmp_path / "team.pt2", change, CONFIG), why)


@pytest.mark.parametrize("bomb", ["zeros", "doubling"])
def test_a_graph_that_takes_all_memory(entries, tmp_path, bomb):
    """Sized before it runs: the numbers alone are harmless, and so is every single doubling."""

    def change(program: Any) -> None:
        graph = program["graph_module"]["graph"]
        meta = graph["tensor_values"]["b_mean"]
        if bomb == "zeros":
            nodes = [node("zeros.default", "big", size={"as_ints": [10**6, 10**6]})]
        else:
            both = [{"name": f"d{i}"} for i in range(40)]
            first = node("zeros.default", "d0", size={"as_ints": [10]})
            nodes = [first] + [
                node("cat.default", f"d{i + 1}", tensors={"as_tensors": [both[i], both[i]]}) for i in range(39)
            ]
        for one in nodes:
            graph["tensor_values"][one["outputs"][0]["as_tensor"]["name"]] = meta
        graph["nodes"] = [*nodes, *graph["nodes"]]

    refused(changed(entries, tmp_path / "team.pt2", change), "it needs more than 1.1 GB an image")


def test_memory_that_is_given_back_counts_once(tmp_path):
    """200 layers of 8 MB an image each, one after the other."""
    deep = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2**21, bias=False))
    layers = [torch.nn.ReLU() for _ in range(200)]
    model = torch.nn.Sequential(*deep, *layers, torch.nn.AdaptiveAvgPool1d(4))
    module = TeamModule([model], [1.0], "soft", [1.0], mean=[0.5], std=[0.5], shape=(1, 8, 8), classes=4)
    write_module(module, "torch", tmp_path / "team.pt2")
    with torch.inference_mode():
        assert torch.equal(read_module("torch", tmp_path / "team.pt2")(IMAGES), module(IMAGES))


def test_nesting(entries, tmp_path):
    deep = b"[" * 100_000
    refused(write(tmp_path / "team.pt2", list({**entries, GRAPH: deep}.items())), "cut off, or no program")


def test_a_graph_that_does_not_hang_together(entries, tmp_path):
    def change(program: Any) -> None:
        program["graph_module"]["graph"]["nodes"].pop(3)

    refused(changed(entries, tmp_path / "team.pt2", change), "torch cannot make a module of it")


# What is written can be read


class Complex(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(x.flatten(1))[:, :4].abs()


def test_a_model_of_other_operations_is_not_exported(tmp_path):
    module = TeamModule([Complex()], [1.0], "soft", [1.0], mean=[0.5], std=[0.5], shape=(1, 8, 8), classes=4)
    with pytest.raises(UserError, match=r"cannot be exported as torch \(.*\): try --as safetensors"):
        write_module(module, "torch", tmp_path / "team.pt2")
    assert not (tmp_path / "team.pt2").exists()


@pytest.mark.parametrize("name", ["torchvision:shufflenet_v2_x0_5", "timm:test_vit", "timm:test_efficientnet"])
def test_models_of_libraries(tmp_path, name):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    module = team(name, shape=(3, 32, 32))
    write_module(module, "torch", tmp_path / "team.pt2")
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(read_module("torch", tmp_path / "team.pt2")(images), module(images))


# ONNX


@pytest.fixture(scope="module")
def onnx_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("team") / "team.onnx"
    write_module(team("mlp"), "onnx", path)
    return path.read_bytes()


@pytest.mark.parametrize("place", ["secret", "../secret", "/dev/zero"])
@pytest.mark.parametrize("nested", [False, True])
def test_weights_of_other_files(onnx_bytes, tmp_path, monkeypatch, place, nested):
    """onnxruntime looks for them where the program runs."""
    import onnx

    model = onnx.load_from_string(onnx_bytes)
    tensor = model.graph.initializer[0]
    size = len(tensor.raw_data)
    (tmp_path / "secret").write_bytes(b"\0" * size)
    monkeypatch.chdir(tmp_path)
    tensor.ClearField("raw_data")
    if nested:  # in the graph of a branch
        attribute = model.graph.node[0].attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        attribute.g.initializer.append(tensor)
        tensor = attribute.g.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (tmp_path / "team.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "team.onnx", re.escape(f"its weights are in other files (['{place}'])"), "onnx")


def test_operators_that_are_not_of_onnx(onnx_bytes, tmp_path):
    import onnx

    path = tmp_path / "team.onnx"
    model = onnx.load_from_string(onnx_bytes)
    model.graph.node.add(domain="com.microsoft", op_type="Gelu", input=["images"], output=["x"])
    path.write_bytes(model.SerializeToString())
    refused(path, "one of its operators is com.microsoft.Gelu", "onnx")
    model = onnx.load_from_string(onnx_bytes)
    model.opset_import.add(domain="somebody", version=1)
    path.write_bytes(model.SerializeToString())
    refused(path, "it needs operators of 'somebody'", "onnx")
    model = onnx.load_from_string(onnx_bytes)
    model.functions.add(name="f")
    path.write_bytes(model.SerializeToString())
    refused(path, "functions or training of its own", "onnx")


def test_an_onnx_file_is_never_another_format(onnx_bytes, tmp_path):
    """onnxruntime takes a file with ORTM at its fifth byte for its own format, whatever else it is."""
    (tmp_path / "team.onnx").write_bytes(b"\x08\x07\x12\x04ORTM" + onnx_bytes)
    with torch.inference_mode():
        found = read_module("onnx", tmp_path / "team.onnx")(IMAGES)
        torch.testing.assert_close(found, team("mlp")(IMAGES))


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff" * 100])
def test_no_onnx_file(onnx_bytes, tmp_path, data):
    (tmp_path / "team.onnx").write_bytes(data)
    refused(tmp_path / "team.onnx", "cut off, or no ONNX model", "onnx")
