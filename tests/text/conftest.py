from __future__ import annotations

from pathlib import Path

import pytest

from tests.text.tiny import questions, texts, write_bert, write_lines, write_llama

pytest.importorskip("transformers")
pytest.importorskip("peft")


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """texts/ and sums/, each with train.jsonl and test.jsonl."""
    folder = tmp_path_factory.mktemp("files")
    for name, make in (("texts", texts), ("sums", questions)):
        (folder / name).mkdir()
        write_lines(folder / name / "train.jsonl", make(40))
        write_lines(folder / name / "test.jsonl", make(12, 100))
    return folder
