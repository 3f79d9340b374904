"""The graph of a .pt2 file, written anew from what is known to be harmless.

``torch.export.load`` makes Python code of a graph: names of tensors and parameters stand in that code as they are,
sizes are evaluated as expressions, operations are looked up anywhere in torch. So a graph is not searched for what is
bad: it is copied, field by field, and what has no rule here is refused (or left out, where torch ignores it too).
"""

from __future__ import annotations

import ast
import builtins
import json
import keyword
import re
from collections.abc import Callable, Collection
from typing import Any

from torch.utils import _pytree as pytree

from lrensemble.export.operators import OPERATORS

Rule = Callable[[Any], Any]  # a value to its copy; raises `Refused`
LARGEST = 2**63 - 1  # of a number in a graph ("to the end" of a slice)
LONGEST = 1000  # characters of a name or a size

# Bytes of one element, by torch's number of its type: whole numbers, floating point, bool.
ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
_STRIDED = 7
_RESERVED = {*keyword.kwlist, *dir(builtins), "self", "torch", "device", "inf", "nan", "fx_pytree", "pytree"}
_SIZE_CALLS = {"Symbol", "Integer", "Add", "Mul", "Max", "Min", "FloorDiv", "CleanDiv", "Mod", "PythonMod"}
_TRUTH_CALLS = {
    "Equality",
    "Unequality",
    "GreaterThan",
    "LessThan",
    "StrictGreaterThan",
    "StrictLessThan",
    "Eq",
    "Ne",
    "Ge",
    "Le",
    "Gt",
    "Lt",
    "And",
    "Or",
    "Not",
}


class Refused(ValueError):
    """What a graph may not hold; the text says what it is."""


def copy_graph(text: bytes) -> tuple[bytes, list[int]]:
    """The contents of ``models/model.json``, copied; and the size of one image, as the graph says it.

    Raises
    ------
    Refused
        It holds something else than tensor operations with one input and one output.
    ValueError, KeyError, TypeError, AttributeError, RecursionError
        It is no graph at all.
    """
    program = json.loads(text)
    if program.get("guards_code") or program["graph_module"]["graph"].get("custom_obj_values"):
        raise Refused("it holds Python code or objects")
    copy = _PROGRAM(program)
    graph, signature = copy["graph_module"]["graph"], copy["graph_module"]["signature"]
    inputs = [
        spec["user_input"]["arg"]["as_tensor"]["name"] for spec in signature["input_specs"] if "user_input" in spec
    ]
    if len(inputs) != 1 or len(signature["output_specs"]) != 1 or len(graph["outputs"]) != 1:
        raise Refused("it has not one input and one output")
    # How it is called is known, so it is not read.
    copy["graph_module"]["module_call_graph"] = [{"fqn": "", "signature": _call(inputs[0])}]
    _, *shape = graph["tensor_values"][inputs[0]]["sizes"]
    return json.dumps(copy).encode(), [size["as_int"] for size in shape]


def _call(image: str) -> dict[str, Any]:
    arguments, answer = pytree.tree_structure(((0,), {})), pytree.tree_structure(0)
    return {
        "inputs": [],
        "outputs": [],
        "in_spec": pytree.treespec_dumps(arguments),
        "out_spec": pytree.treespec_dumps(answer),
        "forward_arg_names": [image],
    }


# Rules


def name(value: Any) -> str:
    """Of a tensor: a local variable of the code that torch makes."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_]\w*", value, re.ASCII) or len(value) > LONGEST:
        raise Refused(f"a name is {_short(value)}")
    if value in _RESERVED:
        raise Refused(f"a name is {value!r}, which means something else")
    return value


def path(value: Any) -> str:
    """Of a weight: attributes of modules, with dots."""
    words = value.split(".") if isinstance(value, str) else []
    if not words or len(value) > LONGEST or any(not re.fullmatch(r"(?!__)[\w-]+", w, re.ASCII) for w in words):
        raise Refused(f"a weight's name is {_short(value)}")
    return str(value)


def whole(value: Any) -> int:
    if type(value) is not int or abs(value) > LARGEST:
        raise Refused(f"a number is {_short(value)}")
    return value


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise Refused(f"yes or no is {_short(value)}")
    return value


def one_of(known: Collection[Any]) -> Rule:
    def rule(value: Any) -> Any:
        if isinstance(value, dict | list) or value not in known:
            raise Refused(f"a value is {_short(value)}")
        return value

    return rule


def optional(rule: Rule) -> Rule:
    return lambda value: None if value is None else rule(value)


def listed(rule: Rule) -> Rule:
    def copy(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Refused(f"a list is {_short(value)}")
        return [rule(item) for item in value]

    return copy


def mapping(key: Rule, rule: Rule) -> Rule:
    return lambda value: {key(k): rule(v) for k, v in value.items()}


def fields(**rules: Rule) -> Rule:
    """Those that are there; what torch does not know of, or has a default for, is left out."""
    return lambda value: {key: rule(value[key]) for key, rule in rules.items() if key in value}


def either(**rules: Rule) -> Rule:
    """One of several kinds of value, named by its key."""

    def rule(value: Any) -> Any:
        if not isinstance(value, dict) or len(value) != 1:
            raise Refused(f"an argument is {_short(value)}")
        ((key, inner),) = value.items()
        if key not in rules:
            raise Refused(f"an argument is no plain value ({_short(key)})")
        return {key: rules[key](inner)}

    return rule


def _number(value: Any) -> Any:
    if type(value) not in (int, float) and value not in ("Infinity", "-Infinity", "NaN"):
        raise Refused(f"a number is {_short(value)}")
    return value


def _word(value: Any) -> str:
    """A mode or an equation; torch quotes it."""
    if not isinstance(value, str) or len(value) > LONGEST:
        raise Refused(f"a text is {_short(value)}")
    return value


def _argument_name(value: Any) -> str:
    """As the operator calls it: ``self``, ``input``, or nothing."""
    if not isinstance(value, str) or not re.fullmatch(r"\w*", value, re.ASCII):
        raise Refused(f"an argument's name is {_short(value)}")
    return value


def _operator(value: Any) -> str:
    if value not in OPERATORS:
        raise Refused(f"one of its operations is {_short(value)}")
    return str(value)


def _symbol(value: Any) -> str:
    # u1, zuf1 (sizes that depend on the data) are not needed, and torch counts up to their number.
    if not isinstance(value, str) or not re.fullmatch(r"s\d{1,9}", value, re.ASCII):
        raise Refused(f"a size is {_short(value)}")
    return value


def expression(calls: Collection[str]) -> Rule:
    """Sizes as SymPy writes them: calls of known functions, symbols and whole numbers."""

    def known(node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            if (
                isinstance(node.func, ast.Name)
                and node.func.id == "Symbol"
                and len(node.args) == 1
                and isinstance(node.args[0], ast.Constant)
            ):
                _symbol(node.args[0].value)
                return all(isinstance(k.value, ast.Constant) and type(k.value.value) is bool for k in node.keywords)
            function = ast.unparse(node.func).removeprefix("torch.utils._sympy.functions.")
            return function in calls and not node.keywords and all(map(known, node.args))
        if isinstance(node, ast.UnaryOp):
            return isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant) and known(node.operand)
        return isinstance(node, ast.Constant) and type(node.value) is int and node.value <= 2**31

    def rule(value: Any) -> str:
        try:
            if len(value) <= LONGEST and known(ast.parse(value, mode="eval").body):
                return str(value)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            pass
        raise Refused(f"a size is {_short(value)}")

    return rule


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


# What is in a graph, by the names of torch's schema (torch._export.serde.schema)

_NAMED = fields(name=name)
_DEVICE = fields(type=one_of({"cpu"}), index=one_of({None, 0}))
_DTYPE, _LAYOUT = one_of(ITEM_BYTES), one_of({_STRIDED})
_EXPRESSION = fields(expr_str=expression(_SIZE_CALLS), hint=optional(either(as_int=whole)))
SIZE = either(as_int=whole, as_expr=_EXPRESSION)
_TENSOR_FIELDS = {"dtype": _DTYPE, "requires_grad": flag, "device": _DEVICE, "layout": _LAYOUT}
_TENSOR = fields(**_TENSOR_FIELDS, sizes=listed(SIZE), strides=listed(SIZE), storage_offset=SIZE)
FIXED_TENSOR = fields(  # a weight
    **_TENSOR_FIELDS,
    sizes=listed(either(as_int=whole)),
    strides=listed(either(as_int=whole)),
    storage_offset=either(as_int=whole),
)
_SYMBOLIC = {"as_name": name}
_ARGUMENT = either(
    as_none=flag,
    as_tensor=_NAMED,
    as_tensors=listed(_NAMED),
    as_optional_tensor=either(as_tensor=_NAMED, as_none=flag),
    as_optional_tensors=listed(either(as_tensor=_NAMED, as_none=flag)),
    as_int=whole,
    as_ints=listed(whole),
    as_float=_number,
    as_floats=listed(_number),
    as_bool=flag,
    as_bools=listed(flag),
    as_string=_word,
    as_sym_int=either(as_int=whole, **_SYMBOLIC),
    as_sym_ints=listed(either(as_int=whole, **_SYMBOLIC)),
    as_sym_float=either(as_float=_number, **_SYMBOLIC),
    as_sym_floats=listed(either(as_float=_number, **_SYMBOLIC)),
    as_sym_bool=either(as_bool=flag, **_SYMBOLIC),
    as_sym_bools=listed(either(as_bool=flag, **_SYMBOLIC)),
    as_scalar_type=_DTYPE,
    as_memory_format=one_of({1, 2, 3, 4}),
    as_layout=_LAYOUT,
    as_device=_DEVICE,
)
_NODE = fields(
    target=_operator,
    inputs=listed(fields(name=_argument_name, arg=_ARGUMENT, kind=optional(one_of({0, 1, 2})))),
    outputs=listed(_ARGUMENT),
    metadata=lambda value: {},  # where it comes from; torch would look up what it names
    name=optional(name),
)
_ONE_TENSOR = fields(arg=either(as_tensor=_NAMED))
_GRAPH = fields(
    inputs=listed(either(as_tensor=_NAMED)),
    outputs=listed(either(as_tensor=_NAMED)),
    nodes=listed(_NODE),
    tensor_values=mapping(name, _TENSOR),
    sym_int_values=mapping(name, SIZE),
    sym_bool_values=mapping(
        name, either(as_bool=flag, as_expr=fields(expr_str=expression(_SIZE_CALLS | _TRUTH_CALLS)))
    ),
    sym_float_values=mapping(name, either(as_float=_number)),
    is_single_tensor_return=flag,
)
_SIGNATURE = fields(
    input_specs=listed(
        either(
            user_input=_ONE_TENSOR,
            parameter=fields(arg=_NAMED, parameter_name=path),
            buffer=fields(arg=_NAMED, buffer_name=path, persistent=flag),
            tensor_constant=fields(arg=_NAMED, tensor_constant_name=path),
        )
    ),
    output_specs=listed(either(user_output=_ONE_TENSOR)),
)
_PROGRAM = fields(
    graph_module=fields(graph=_GRAPH, signature=_SIGNATURE),
    opset_version=mapping(name, whole),
    range_constraints=mapping(_symbol, fields(min_val=optional(whole), max_val=optional(whole))),
    schema_version=fields(major=whole, minor=whole),
    verifiers=listed(one_of({"TRAINING", "ATEN", ""})),
    torch_version=_word,
)
