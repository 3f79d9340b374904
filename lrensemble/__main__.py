"""``python -m lrensemble``."""

import sys
from pathlib import Path

import lrensemble

# Python puts the current folder first on the import path for -m: a torch.py in a folder from elsewhere would run.
# It stays where lrensemble itself is in it.
if not sys.flags.safe_path and sys.path[:1] == [str(Path.cwd())] != [str(Path(lrensemble.__file__).parents[1])]:
    del sys.path[0]

from lrensemble.cli.main import run

if __name__ == "__main__":
    run()
