"""What is wrong with a configuration, said as what to write instead: its YAML, its types, its keys."""

from __future__ import annotations

import datetime
import re
import reprlib
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from lrensemble.errors import UserError, did_you_mean
from lrensemble.policies.units import NUMBER
from lrensemble.pool.record import Named

T = TypeVar("T", bound=BaseModel)
_SHORT = reprlib.Repr()  # of a value that is lists of the same lists of the same lists, too
_SHORT.maxstring = _SHORT.maxother = 200
MOST_YAML = 512 << 10  # characters: its reader takes seconds for them
MOST_VALUES = 100_000  # in it, with every alias written out
QUOTE = "put every policy in quotes, or on a line of its own after '- '"
WORDS = {  # pydantic's errors, for people
    "string_type": "a text is needed",
    "tuple_type": "a list is needed",
    "model_type": "keys with values are needed",
    "dict_type": "keys with values are needed",
    "int_type": "a whole number is needed",
    "int_parsing": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "float_type": "a number is needed",
    "float_parsing": "a number is needed",
    "bool_parsing": "true or false is needed",
    "string_pattern_mismatch": "letters, digits, '_', '-' and '.' are possible",
}


class _Constructor(SafeConstructor):
    """YAML's plain types, without numbers that other dialects read otherwise."""

    def construct_yaml_int(self, node: Any) -> int:
        if re.match(r"[-+]?0[\d_]", node.value):
            raise UserError(
                f"{node.value} is octal in some dialects of YAML, decimal in others: write it without its 0"
            )
        number: int = super().construct_yaml_int(node)
        return number


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)


def read_yaml(text: str, where: str) -> Any:
    """Plain values of a YAML text; `UserError` names the line and the likely fix."""
    if len(text) > MOST_YAML:
        raise UserError(f"{where}: not YAML: {len(text):,} characters, at most {MOST_YAML:,} are read")
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _Constructor
    try:
        data = reader.load(text)
        if _size(data, {}) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values with its aliases written out")
        return data
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except (YAMLError, ValueError, TypeError, AttributeError, ArithmeticError, LookupError) as error:  # of odd scalars
        raise UserError(f"{where}: not YAML: {_yaml_problem(text, error)[:500]}") from None


def _size(value: Any, sizes: dict[int, int]) -> int:
    """Values in `value` with every alias written out; ValueError for one that is inside itself."""
    if not isinstance(value, dict | list | set):
        return 1
    if id(value) not in sizes:
        sizes[id(value)] = 0  # not known yet: whoever meets it here is inside of it
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        sizes[id(value)] = 1 + sum(_size(one, sizes) for one in inside)
    elif not sizes[id(value)]:
        raise ValueError("an alias inside of what it stands for")
    return sizes[id(value)]


def short(value: object) -> str:
    """As an error shows it; a number of thousands of digits has no text in Python."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):
        return f"({type(value).__name__}, too long to be shown)"


def _yaml_problem(text: str, error: Exception) -> str:
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    number = error.problem_mark.line
    line = next(iter(text.splitlines()[number:]), "")
    fix = ""
    if "escape" in (error.problem or ""):
        fix = "; in single quotes a backslash is itself"
    elif "\t" in line:
        fix = "; indent with spaces, not tabs"
    elif "(" in line and "[" in line:
        fix = f"; {QUOTE}"
    elif glued := re.search(r"^ *-[^\s-].*", text, re.MULTILINE):
        fix = f"; a space is needed after - in {glued[0].strip()!r}"
    return f"line {number + 1}, column {error.problem_mark.column + 1}: {error.problem}{fix}"


def validated(kind: type[T], data: Any, where: str) -> T:
    """Build `kind` from plain data; what is wrong becomes one `UserError` that starts with `where`."""
    _check_plain(kind, data, where, "", set())
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        # A key that is not known explains one that is missing.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise UserError(f"{where}: {_explain(kind, first['loc'], first)}") from None


def _inside(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation; optional parts, as `stop: Hopeless | None`, are looked through."""
    return next((a for a in (annotation, *get_args(annotation)) if isinstance(a, type(BaseModel))), None)


def _check_plain(kind: type[BaseModel] | None, data: Any, where: str, path: str, seen: set[tuple[int, Any]]) -> None:
    """What pydantic would take for something else: true for 1, a date for a name, a number in quotes for a text.

    `seen` are the lists and dicts behind it: with YAML's aliases they can be in each other, or in themselves.
    """
    if isinstance(data, list | tuple | dict):
        if (id(data), kind) in seen:
            return
        seen.add((id(data), kind))
    if isinstance(data, datetime.date):
        raise UserError(f"{where}: {path} = {data} is a date in YAML: put it in quotes")
    if isinstance(data, list | tuple):
        for item in data:
            _check_plain(kind, item, where, path, seen)
    elif isinstance(data, dict):
        for key, value in data.items():
            inside = f"{path}.{key}" if path else str(key)
            if isinstance(key, int | float):
                raise UserError(f"{where}: {inside} is no key{_comma_hint(data, key)}")
            field = kind.model_fields.get(str(key)) if kind else None
            types = (field.annotation, *get_args(field.annotation)) if field else ()
            if isinstance(value, bool) and {int, float} & set(types) and bool not in types:
                raise UserError(f"{where}: {inside} = {value} is not possible: a number is needed")
            of = _inside(field.annotation) if field else kind if kind is Named else None
            _check_plain(of, value, where, inside, seen)
    elif path == "optimizer.groups.params":  # a pattern may be a number: of names such as 0.weight
        return
    elif kind is Named and isinstance(data, str) and "." in path and (hint := _number_hint(data)):
        raise UserError(f"{where}: {path} = {data!r} is a text: {hint}")


def _number_hint(text: str) -> str:
    """What to do with a number that YAML did not take for one."""
    if re.fullmatch(NUMBER, text):
        return "remove the quotes"
    return f"write {text.replace(',', '.')}" if re.fullmatch(r"[-+]?\d+,\d+", text) else ""


def _comma_hint(data: dict[Any, Any], number: float) -> str:
    """What to do where YAML split a decimal comma: {momentum: 0,9} is {momentum: 0, 9: null}."""
    keys = [*data]
    before = keys[keys.index(number) - 1]
    if data[number] is None and isinstance(before, str) and isinstance(data[before], int):
        return f": {before}: {data[before]},{number} is split by YAML, write {data[before]}.{number}"
    return ": keys are words"


def _explain(kind: type[BaseModel], location: tuple[int | str, ...], error: Any) -> str:
    path = ".".join(map(str, location))
    if error["type"] == "missing":
        more = " (lrensemble run CONFIG --members N finds its own)" if path == "policies" else ""
        return f"{path} is missing{more}"
    if error["type"] == "extra_forbidden":
        inside: type[BaseModel] | None = kind
        for part in location[:-1]:
            inside = _inside(inside.model_fields[str(part)].annotation) if inside else None
        return f"unknown key {path!r}: {did_you_mean(location[-1], inside.model_fields if inside else ())}"
    problem = WORDS.get(error["type"]) or error["msg"][0].lower() + error["msg"][1:]
    hint = _hint(path, error["input"], error["type"])
    return f"{path} = {short(error['input'])}: {problem}{f' ({hint})' if hint else ''}"


def _hint(path: str, value: Any, problem: str) -> str:
    """What to write instead, where that can be known."""
    is_list = isinstance(value, list | tuple)
    if value is None:
        return "there is nothing after its colon"
    if problem == "string_pattern_mismatch":
        return f"for example {as_name(value) or 'my-pool'}"
    if path == "seeds":
        number = _number_hint(value) if isinstance(value, str) else ""
        return number or "how many, or which: 3 or [0, 1, 2]"
    if path.startswith("policies") and isinstance(value, int | float):
        return f"a policy, for example FIX(k0={value})"
    if problem == "string_type":
        return "" if is_list or isinstance(value, dict) else "put it in quotes"
    if isinstance(value, str) and (hint := _number_hint(value)):
        return hint
    if is_list and value and path.split(".")[0] in ("model", "optimizer", "training"):
        return f"to try several: grid: {{{path}: {short(list(value))}}}"
    return f"write [{value}]" if problem == "tuple_type" and not isinstance(value, dict) else ""


def as_name(text: str) -> str:
    """A name for a pool made of a text: ``my config (1)`` becomes ``my-config-1``."""
    return re.sub(r"[^\w.]+", "-", text).strip("-.")[:100]
