"""The example configurations: where they are, and one of them as a file of the user's own, with data to begin with."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

from lrensemble.errors import UserError, did_you_mean

# What most people begin with -> its configuration.
TASKS = {
    "digits": "digits",
    "images": "images",
    "tabular": "tabular",
    "model": "own_model",
    "events": "events_digits",
    "text": "text",
}
OURS = ("bank_", "replay_", "verify_")  # of the project's own benchmarks: they are found, but not proposed
YOURS = {"text": "a file of texts and their classes"}  # what there is no sample of
IMAGES, TEST = 60, 4  # sample images of a class, and every how many-th is of test


def example(name: str) -> Path:
    """The file of an example configuration; `UserError` with the nearest name."""
    folder = _folder()
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if (stem := TASKS.get(name, name)) not in known:
        proposed = {**TASKS, **{stem: path for stem, path in known.items() if not stem.startswith(OURS)}}
        raise UserError(f"no example is called {name!r}: {did_you_mean(name, proposed)}")
    return known[stem]


def _folder() -> Path:
    """In a wheel the examples are in the package, in a checkout beside it: there they are written once."""
    package = Path(__file__).parent
    return next((path for path in (package / "configs", package.parent / "configs") if path.is_dir()), package)


def missing_config(path: Path) -> str:
    """What to say of a configuration that is not there."""
    here = sorted(near.name for near in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    there = f"in {path.parent} are {', '.join(here[:10])}" if here else f"no configuration is in {path.parent}"
    name = path.stem if path.stem in {*TASKS, *(file.stem for file in _folder().glob("*.yaml"))} else ""
    return f"{there}; lrensemble init {name or 'TASK'} writes one (TASK: {', '.join(TASKS)})"


def begin(name: str, target: Path, data: Path | None = None, column: str | None = None) -> list[str]:
    """Write the example `name` to `target`; return what else was written, into the current folder.

    Parameters
    ----------
    data : Path, optional
        The user's folder of images or table, in place of the sample.
    column : str, optional
        Of a table: what is to be predicted.

    Raises
    ------
    UserError
        Unknown example, a file that is there already, data that is not there or that the example does not take.
    """
    source = example(name)
    text = source.read_text(encoding="utf-8")
    sample = _SAMPLES.get(source.stem)
    for value, key in ((data, "root"), (column, "target")):
        if value is not None:
            text = _with(text, key, str(value), name)
    if data is not None and not data.exists():
        raise UserError(f"{data} does not exist")
    if data is None and source.stem in YOURS:
        raise UserError(f"init {name} needs {YOURS[source.stem]}: lrensemble init {name} FILE")
    if data is None and column is not None:
        raise UserError(f"--target {column} is of a table of yours: name the table too")
    code = source.with_suffix(".py")
    copies = {target: text} | ({Path(code.name): code.read_text(encoding="utf-8")} if code.exists() else {})
    for path in copies:
        if path.exists():
            raise UserError(f"{path} is there already: -o FILE writes another, or delete it")
        if not path.parent.is_dir():
            raise UserError(f"there is no folder {path.parent} for {path.name}: make it first")
    made = []
    if data is None and sample is not None:
        root = Path(re.findall(r"(?m)^  root: (\S+)", text)[0])
        made = [sample(root)] if not root.exists() else [f"{root}: there already, left alone"]
    for path, content in copies.items():
        path.write_text(content, encoding="utf-8")
    return [*(f"{path}: the model, in PyTorch" for path in copies if path != target), *made]


def _with(text: str, key: str, value: str, name: str) -> str:
    """The configuration with another value of a key of ``data``."""
    found = re.search(rf"(?m)^  {key}: \S+", text)
    if found is None:
        raise UserError(f"{value}: the example {name} takes no data of yours; images, tabular and text do")
    return f"{text[: found.start()]}  {key}: {json.dumps(value, ensure_ascii=False)}{text[found.end() :]}"


def _sample_images(root: Path) -> str:
    """Scikit-learn's digits as pictures, where the user's own will stand."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in range(10):
        images = (digits.images[digits.target == label][:IMAGES] * 255 / 16).astype("uint8")
        for i, image in enumerate(images):
            path = root / ("test" if i % TEST == TEST - 1 else "train") / str(label) / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return f"{root}: {10 * IMAGES} small pictures of digits to begin with, in place of yours"


def _sample_table(path: Path) -> str:
    """Scikit-learn's breast cancer with names of columns and classes."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow([*(name.replace(" ", "_") for name in found.feature_names), "diagnosis"])
        for row, label in zip(found.data.tolist(), found.target, strict=True):
            lines.writerow([*row, found.target_names[label]])
    return f"{path}: {len(found.data)} rows of breast cancer data to begin with, in place of yours"


_SAMPLES: dict[str, Callable[[Path], str]] = {"images": _sample_images, "tabular": _sample_table}
