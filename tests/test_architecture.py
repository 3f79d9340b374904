"""The rooms know only those below them, and pure rooms do no I/O."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import lrensemble

ROOT = Path(lrensemble.__file__).parent
FLOORS = {
    "cli": 4,
    "report": 3,
    "robustness": 3,
    "recommend": 3,
    "export": 3,
    "integrations": 3,
    "adopt": 3,
    "training": 2,
    "evaluation": 2,
    "pool": 1,
    "tasks": 1,
    "models": 1,
    "policies": 0,
    "diversity": 0,
    "selection": 0,
    "metrics": 0,
}
PURE = {room for room, floor in FLOORS.items() if floor == 0}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            if node.module == "lrensemble":  # `from lrensemble import Pool` is an import of the pool room
                names.update(f"lrensemble.{lrensemble._HOMES.get(alias.name, alias.name)}" for alias in node.names)
    return names


def test_every_room_has_a_floor():
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path):
    room = path.relative_to(ROOT).parts[0]
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("lrensemble.")} & set(FLOORS)
    # Pure rooms may build on pure rooms, as nothing is hidden between them; here are all that do. And Optuna's storages
    # are opened in one place.
    allowed = {r for r, floor in FLOORS.items() if floor < FLOORS[room]} | {room}
    allowed |= {"selection": {"metrics", "diversity"}, "diversity": {"metrics"}, "adopt": {"recommend"}}.get(
        room, set()
    )
    assert rooms <= allowed


@pytest.mark.parametrize("path", [p for p in MODULES if p.relative_to(ROOT).parts[0] in PURE], ids=lambda p: p.stem)
def test_pure_rooms_do_no_io(path: Path):
    tree = ast.parse(path.read_text())
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not calls & {"open", "print", "input"}
    assert not {name.split(".")[0] for name in imported(path)} & {"os", "pathlib", "io", "subprocess", "socket"}


def imports_at_run_time(path: Path, modules: set[str]) -> set[str]:
    """Modules of the package that one imports, also inside functions, but not for type checkers alone."""
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:  # a module of a package, or a name in a module; the face imports on first use
                home = lrensemble._HOMES.get(alias.name) if node.module == "lrensemble" else None
                inside = f"{node.module}.{home or alias.name}"
                found.add(inside if inside in modules else node.module or "")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found & modules


def import_graph() -> dict[str, set[str]]:
    paths = {
        ".".join(("lrensemble", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in ROOT.rglob("*.py")
    }
    graph = {name: imports_at_run_time(path, set(paths)) - {name} for name, path in paths.items()}
    graph["lrensemble"] |= {f"lrensemble.{home}" for home in lrensemble._HOMES.values()}
    return graph


def circles(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports between modules that reach each other."""
    reach = {}
    for start in graph:
        seen, todo = set(), [start]
        while todo:
            for name in graph[todo.pop()] - seen:
                seen.add(name)
                todo.append(name)
        reach[start] = seen
    return sorted((a, b) for a in graph for b in graph[a] if a in reach[b])


def test_no_import_circles():
    assert not circles(import_graph())


def test_circles_are_found_wherever_the_import_stands(tmp_path: Path):
    text = "if TYPE_CHECKING:\n    from p import c\nelse:\n    import p.b\ndef f():\n    from p.a import x\n"
    (tmp_path / "m.py").write_text(text)
    assert imports_at_run_time(tmp_path / "m.py", {"p.a", "p.b", "p.c"}) == {"p.a", "p.b"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [("b", "c"), ("c", "b")]


@pytest.mark.parametrize("path", [p for p in MODULES if p.relative_to(ROOT).parts[0] == "cli"], ids=lambda p: p.stem)
def test_what_a_command_says_goes_through_output(path: Path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    names |= {call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr == "write"}
    assert path.stem == "output" or not names & {"print", "Console", "write"}


def test_modules_stay_small():
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert max(sizes.values()) <= 400, max(sizes, key=sizes.get)


def class_names() -> list[str]:
    trees = [ast.parse(path.read_text()) for path in ROOT.rglob("*.py")]
    return [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def test_no_two_classes_of_one_name():
    counts = Counter(class_names())
    assert counts["Pool"] == counts["Task"] == counts["Run"] == 1
    assert not [name for name, count in counts.items() if count > 1]


def test_foreign_trainers_are_imported_in_their_own_modules_alone():
    foreign = {"transformers", "accelerate", "lightning", "trl", "peft"}
    importing = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if foreign & {n.split(".")[0] for n in imported(path)}
    }
    assert importing == {f"integrations/{name}.py" for name in ("transformers", "accelerate", "lightning")}


def test_optuna_is_used_by_its_public_face():
    """Its storages and trials hide these names; they are gone in some version, and the database with them."""
    hidden = re.compile(r"\._(storage|study_id|trial_id)\b")
    assert hidden.search("study._storage") and not hidden.search("storage.get_study_id_from_name(name)")
    assert not [path for path in ROOT.rglob("*.py") if hidden.search(path.read_text())]


def test_the_public_names_exist():
    for name in lrensemble.__all__:
        assert getattr(lrensemble, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian_pool'"):
        _ = lrensemble.trian_pool
