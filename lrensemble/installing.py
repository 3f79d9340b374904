"""How to install what an optional part needs, as it works where this runs."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from lrensemble.errors import UserError

NAME = "lrensemble"


@contextlib.contextmanager
def needed(what: str, extra: str) -> Iterator[None]:
    """For imports of packages of `extra`: where they are missing a `UserError` says `what`, and how to install them."""
    try:
        yield
    except ImportError:
        raise UserError(f"{what}: {install(extra)}") from None


def install(extra: str) -> str:
    """The command that installs the extra `extra`, quoted for a shell.

    In a checkout it names the checkout. Of a wheel's file or a URL it names the packages themselves: no index need know
    lrensemble, and one that knows the name may have another's package. Installed from an index: the usual form.
    """
    try:
        found = distribution(NAME)
    except PackageNotFoundError:  # on the import path alone
        return _pip(f"-e {shlex.quote(f'{Path(__file__).parents[1]}[{extra}]')}")
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if not origin:
        return _pip(shlex.quote(f"{NAME}[{extra}]"))
    if origin.get("dir_info", {}).get("editable"):
        checkout = url2pathname(urlparse(origin["url"]).path)
        return _pip(f"-e {shlex.quote(f'{checkout}[{extra}]')}")
    return _pip(" ".join(shlex.quote(requirement) for requirement in requirements(found, extra)))


def requirements(found: Distribution, extra: str) -> list[str]:
    """The packages of an extra, with those of the extras that it names."""
    packages: list[str] = []
    for line in found.requires or ():
        requirement, _, marker = line.partition(";")
        if f"extra == '{extra}'" in marker.replace('"', "'"):
            inner = re.match(rf"{NAME}\[(.+)\]", requirement.replace(" ", ""))
            for name in inner[1].split(",") if inner else ():
                packages += requirements(found, name)
            packages += [] if inner else [requirement.strip()]
    return list(dict.fromkeys(packages))


def _pip(what: str) -> str:
    """With the pip of this Python, which is not always the shell's; some environments have none."""
    here = Path(sys.executable).parent
    if (pip := shutil.which("pip")) and Path(pip).parent == here:
        return f"pip install {what}"
    if (here / "pip").exists():
        return f"{shlex.quote(str(here / 'pip'))} install {what}"
    return f"uv pip install --python {shlex.quote(sys.executable)} {what}"
