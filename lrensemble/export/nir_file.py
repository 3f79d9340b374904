"""Spiking members as NIR graphs (neuroir.org, BSD), for other simulators and for neuromorphic hardware; and run again.

A neuron u' = d u + I that is reset to 0 is a LIF of NIR with tau = dt / (1 - d), r = 1 / (1 - d), v_leak = v_reset = 0
in steps of Euler of length dt. What a graph cannot say is in its metadata: dt, steps, how events become frames.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from lrensemble.array import Array
from lrensemble.errors import UserError
from lrensemble.evaluation.network import Network
from lrensemble.export.card import Card
from lrensemble.export.module import TeamModule
from lrensemble.installing import install
from lrensemble.models.spiking.layers import Spiking, SpikingNet
from lrensemble.models.spiking.neuron import pool
from lrensemble.pool import Member

NIR = "nir"  # name of the format
Sources = tuple[str, ...]  # nodes whose outputs are added


def need_nir() -> ModuleType:
    """The package; `UserError` where it is not installed."""
    try:
        import nir
    except ImportError as error:
        raise UserError(f"export --as nir needs {error.name}: {install('nir')}") from None
    module: ModuleType = nir
    return module


def write_nir(model: SpikingNet, path: Path, *, shape: tuple[int, ...], dt: float, about: Mapping[str, Any]) -> None:
    """Write a spiking network as a NIR graph of one time step.

    Parameters
    ----------
    shape : of a frame, (polarities, height, width)
    dt : seconds of a time step
    about : text and numbers for the metadata

    Raises
    ------
    UserError
        It has parts that have no name in NIR; the package is missing.
    """
    nir = need_nir()
    nodes: dict[str, Any] = {"input": nir.Input(np.array(shape))}
    edges: list[tuple[str, str]] = []

    def add(name: str, node: Any, sources: Sources) -> Sources:
        nodes[name] = node
        edges.extend((source, name) for source in sources)
        return (name,)

    found: dict[fx.Node, Sources] = {}
    for node in _traced(model, shape).nodes:
        name, given = str(node.name), [found[a] for a in node.all_input_nodes if a in found]
        before = _shape(node.all_input_nodes[0]) if node.all_input_nodes else ()
        if node.op == "placeholder":
            found |= {node: ("input",)} if not found else {}
        elif node.op == "output":
            add("output", nir.Output(np.array(before)), given[0])
        elif node.target is operator.add:
            found[node] = given[0] + given[1]
        elif node.target is pool:
            found[node] = add(name, _average(nir, (2, 2)), given[0])
        elif node.op == "call_method" and node.target == "mean" and node.args[1] == (-2, -1):
            whole = add(name, _average(nir, before[1:]), given[0])
            found[node] = add(f"{name}_flat", _flat(nir, (before[0], 1, 1)), whole)
        elif node.op == "call_method" and node.target == "flatten":
            found[node] = add(name, _flat(nir, before), given[0])
        elif node.op == "call_module":
            layer = model.get_submodule(str(node.target))
            assert isinstance(layer, Spiking)
            currents = add(f"{name}_synapses", _synapses(nir, layer.synapses, before), given[0])
            found[node] = add(name, _lif(nir, layer, before, dt), currents)
            if layer.halve:
                found[node] = add(f"{name}_pool", _average(nir, (2, 2)), found[node])
        else:
            raise UserError(f"{node.format_node()} of {type(model).__name__} has no name in NIR: --as torch")
    graph = nir.NIRGraph(nodes, edges, metadata={**about, "dt": dt})
    nir.write(path, graph)


class _Tracer(fx.Tracer):
    """Through `spikes`; layers and `pool` stay whole."""

    traced_func_name = "spikes"

    def __init__(self) -> None:
        super().__init__(autowrap_functions=(pool,))

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, Spiking)


def _traced(model: SpikingNet, shape: tuple[int, ...]) -> fx.Graph:
    graph = _Tracer().trace(model)
    with torch.no_grad():
        ShapeProp(fx.GraphModule(model, graph)).propagate(torch.zeros(1, 1, *shape), 1)
    return graph


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape[2:])


def _average(nir: Any, size: tuple[int, ...]) -> Any:
    return nir.AvgPool2d(kernel_size=np.array(size), stride=np.array(size), padding=np.array([0, 0]))


def _flat(nir: Any, shape: tuple[int, ...]) -> Any:
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)


def _synapses(nir: Any, synapses: nn.Module, shape: tuple[int, ...]) -> Any:
    weight = synapses.weight.detach().numpy()  # type: ignore[operator]
    if isinstance(synapses, nn.Linear):
        return nir.Linear(weight=weight)
    assert isinstance(synapses, nn.Conv2d)
    bias = np.zeros(len(weight), weight.dtype)
    return nir.Conv2d(shape[1:], weight, synapses.stride, synapses.padding, synapses.dilation, synapses.groups, bias)


def _lif(nir: Any, layer: Spiking, shape: tuple[int, ...], dt: float) -> Any:
    with torch.no_grad():
        neurons = layer.synapses(torch.zeros(1, *shape)).shape[1:]
    left = 1 - layer.neuron.decay
    tau, r, threshold, rest = (np.full(neurons, value) for value in (dt / left, 1 / left, layer.neuron.threshold, 0.0))
    return nir.LIF(tau=tau, r=r, v_leak=rest, v_threshold=threshold, v_reset=rest)


class NirModel(nn.Module):
    """A NIR file, run step by step as its equations say: frames (B, T, ...) -> rates of the output (B, C).

    This is the check of what `write_nir` writes, and shares nothing with the networks that it was made of.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.graph = need_nir().read(path)
        self.dt = float(self.graph.metadata["dt"])

    def forward(self, x: Tensor) -> Tensor:
        before: dict[str, list[str]] = {name: [] for name in self.graph.nodes}
        for source, name in self.graph.edges:
            before[name].append(source)
        potentials: dict[str, Tensor] = {}
        total = torch.zeros(())
        for step in x.unbind(1):
            values: dict[str, Tensor] = {"input": step}

            def value(name: str, values: dict[str, Tensor] = values) -> Tensor:
                if name not in values:
                    given = torch.stack([value(source) for source in before[name]]).sum(0)
                    values[name] = self._node(name, given, potentials)
                return values[name]

            total = total + value("output")
        return total / x.shape[1]

    def _node(self, name: str, x: Tensor, potentials: dict[str, Tensor]) -> Tensor:
        node: Any = self.graph.nodes[name]
        match type(node).__name__:
            case "Linear":
                return F.linear(x, _tensor(node.weight))
            case "Conv2d":
                settings = {key: _pair(getattr(node, key)) for key in ("stride", "padding", "dilation")}
                return F.conv2d(x, _tensor(node.weight), _tensor(node.bias), **settings, groups=int(node.groups))
            case "AvgPool2d":
                return F.avg_pool2d(x, _pair(node.kernel_size), _pair(node.stride), _pair(node.padding))
            case "Flatten":
                return x.flatten(1)
            case "LIF":
                share = self.dt / node.tau  # Euler: v + dt / tau (v_leak - v + r I), constants in float64
                old = potentials.get(name, torch.zeros(()))
                v = _tensor(1 - share) * old + _tensor(share * node.r) * x + _tensor(share * node.v_leak)
                spikes = v > _tensor(node.v_threshold)
                potentials[name] = torch.where(spikes, _tensor(node.v_reset), v)
                return spikes.to(x.dtype)
            case "Output":
                return x
            case kind:
                raise UserError(f"{name}: a node {kind} is not run here")


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))


def _pair(values: Any) -> tuple[int, int]:
    a, b = np.broadcast_to(np.asarray(values), 2).tolist()
    return int(a), int(b)


# Teams


def check_spiking(module: TeamModule, members: Mapping[str, Member]) -> None:
    """Raise `UserError` unless every member is a spiking network of the library, and the package is there."""
    need_nir()
    for member, network in zip(members.values(), module.members, strict=True):
        if not isinstance(getattr(network, "model", network), SpikingNet):
            raise UserError(
                f"NIR holds spiking networks, and the model {member.record.spec.model} of member {member.id} is none "
                "of lrensemble's (carsnn, event_resnet): --as torch"
            )


def write_members(module: TeamModule, card: Card, folder: Path) -> list[str]:
    """Write ``ID.nir`` for every member, as a graph is of one network; their names."""
    frames, names = card.preprocessing.frames, []
    assert frames  # no other rows than recordings go into spiking networks
    for member, network in zip(card.members, module.members, strict=True):
        assert isinstance(network.model, SpikingNet)
        about = {**frames.model_dump(), "member": member.id, "policy": member.label, "lrensemble": card.version}
        names.append(f"{member.id}.nir")
        write_nir(network.model, folder / names[-1], shape=frames.shape[1:], dt=frames.time_step, about=about)
    return names


def read_members(module: TeamModule, members: Mapping[str, Member], folder: Path) -> TeamModule:
    """The team with its members' networks read from their files; scores and votes as they are."""
    read = copy.copy(module)
    read._modules = {**module._modules}
    networks = [m for m in module.members if isinstance(m, Network)]
    read.members = nn.ModuleList(
        Network(NirModel(folder / f"{i}.nir"), network.inputs, network.shape, network.scores)
        for i, network in zip(members, networks, strict=True)
    )
    return read
