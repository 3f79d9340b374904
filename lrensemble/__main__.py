"""``python -m lrensemble``."""

from lrensemble.cli.main import run

if __name__ == "__main__":
    run()
