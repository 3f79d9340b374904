"""Numbers from files: every usual way to write them, and a line for every way to get it wrong."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lrensemble.errors import MachineError, UserError
from lrensemble.pool.reading import read_numbers, read_table

FLOATS = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 4)), elements=st.floats(allow_nan=True))


@given(
    FLOATS,
    st.sampled_from([",", ";", "\t", " ", ", "]),
    st.sampled_from(["", "a", "cat dog", '"x,y"']),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
)
def test_text_of_any_dialect(tmp_path_factory, values, delimiter, name, index, newline, mark):
    if " " in name and delimiter == " ":
        name = "a"
    header = delimiter.join([""] * (index and bool(name)) + [name] * values.shape[1]) if name else None
    lines = [
        delimiter.join([str(i)] * (index and header is not None) + [repr(float(x)) for x in row])
        for i, row in enumerate(values)
    ]
    text = mark + newline.join([*([header] if header else []), *lines]) + newline + newline
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(text.encode())
    if delimiter == " " and index and header:
        return  # a first column without a name cannot be seen between spaces
    table = read_table(path, "val")
    if table.first is not None:  # whole numbers, all of them different, may be a header
        return
    np.testing.assert_array_equal(table.values[:, int(index and bool(name)) :], values)
    assert (table.names is not None) == bool(name)


@given(arrays(st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8]), (3, 2)))
def test_arrays_come_back(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("npy")
    np.save(folder / "x.npy", values)
    np.savez(folder / "x.npz", val=values, test=values[:1])
    np.savez_compressed(folder / "one.npz", values)
    for found in (
        read_numbers(folder / "x.npy"),
        read_numbers(folder / "x.npz", "val"),
        read_numbers(folder / "one.npz"),
    ):
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)
    assert len(read_numbers(folder / "x.npz", "test")) == 1


def test_numpys_rs_and_pandas_own_text(tmp_path: Path):
    values = np.array([[0.25, 0.75], [1, 0]])
    np.savetxt(tmp_path / "a.txt", values)
    np.savetxt(tmp_path / "b.csv", values, delimiter=",", header="x,y")  # "# x,y"
    (tmp_path / "c.csv").write_text(",0,1\n0,0.25,0.75\n1,1,0\n")  # DataFrame.to_csv
    (tmp_path / "d.csv").write_text("0,1\n0.25,0.75\n1,0\n")  # to_csv(index=False)
    (tmp_path / "e.txt").write_text('"x" "y"\n"1" 0.25 0.75\n"2" 1 0\n')  # write.table
    (tmp_path / "f.csv").write_text("# of the second run\n# seed 3\n0.25,0.75\n# between\n1,0\n")
    (tmp_path / "g.csv").write_text("x;y;\n0,25;0,75;\n1;0;\n")  # decimal commas, and a delimiter at the end
    expected = {
        "a.txt": None,
        "b.csv": ("x", "y"),
        "c.csv": ("", "0", "1"),
        "d.csv": ("0", "1"),
        "e.txt": ("", "x", "y"),
        "f.csv": None,
        "g.csv": ("x", "y"),
    }
    for name, names in expected.items():
        table = read_table(tmp_path / name, "val")
        table = table.headed() if table.first else table
        assert table.names == names
        np.testing.assert_array_equal(table.values[:, -2:], values)


def test_a_point_is_no_decimal_comma(tmp_path: Path):
    (tmp_path / "x.csv").write_text("0.0,2.0\n1.0,5.0\n")
    np.testing.assert_array_equal(read_table(tmp_path / "x.csv", "val").values, [[0, 2], [1, 5]])


def test_separators_of_pandas(tmp_path: Path):
    """A header that begins with a space has no name for the index; a bar parts cells too."""
    for text in (" 0 1\n0 0.5 0.25\n1 0.125 1.0\n", "|0|1\n0|0.5|0.25\n1|0.125|1.0\n"):
        (tmp_path / "x.csv").write_text(text)
        table = read_table(tmp_path / "x.csv", "val")
        assert table.names == ("", "0", "1")
        np.testing.assert_array_equal(table.values[:, 1:], [[0.5, 0.25], [0.125, 1.0]])


def test_too_little_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_memory(*_args, **_options):
        raise MemoryError

    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    np.savez(tmp_path / "x.npz", val=np.zeros((3, 2)))
    monkeypatch.setattr(np.lib.format, "read_array", no_memory)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(MachineError, match="too little memory: nothing is damaged"):
            read_table(tmp_path / name, "val")


def test_text_beside_numbers(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text("a.png,0.25,0.75\nb.png,1,0\n")
    table = read_table(path, "val")
    assert (table.names, table.first, table.texts) == (None, None, {0: ["a.png", "b.png"]})
    np.testing.assert_array_equal(table.values[:, 1:], [[0.25, 0.75], [1, 0]])
    path.write_text("label\npolar bear\nowl\n")
    table = read_table(path, "val")
    assert table.texts == {0: ["label", "polar bear", "owl"]}
    assert (table.headed().texts, table.headed().names) == ({0: ["polar bear", "owl"]}, ("label",))
    np.save(tmp_path / "x.npy", np.array(["cat", "dog"]))
    assert read_table(tmp_path / "x.npy", "val").texts == {0: ["cat", "dog"]}


@pytest.mark.parametrize(
    ("text", "may_be"),
    [
        ("0,1,2\n", True),
        ("2,0,1\n", True),
        ("1,2,3\n", True),
        ("3,5,7\n", True),
        ("0.0,1.0,2.0\n", True),
        ("0\n", True),
        ("0,1\n", True),
        ("1\n", False),
        ("2\n", False),
        ("0,2\n", False),
        ("1,1,0\n", False),
        ("0.5,1,2\n", False),
        ("-1,0,1\n", False),
    ],
)
def test_first_lines_that_may_be_a_header(tmp_path: Path, text, may_be):
    row = ",".join(["0.5"] * (text.count(",") + 1))
    (tmp_path / "x.csv").write_text(f"{text}{row}\n{row}\n")
    assert (read_table(tmp_path / "x.csv", "val").first is not None) == may_be


def _npy(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"a,b\n1,2\n\n3,four\n", "x.csv, line 4: 'four' is not a number"),
        ("x.csv", b"1,2\n3,\n", "x.csv, line 2: '' is not a number .a missing value. Fill it in, or leave the row out"),
        ("x.csv", b"0,1,2\n.1,.2,.7\n,,\n.1,.3,.6\n", "line 3: '' is not a number"),
        ("x.csv", b'0\n1\n""\n2\n', "line 3: '' is not a number"),
        ("x.csv", b"0\n1\n\n2\n", "line 3 is blank: a missing value"),
        ("x.csv", b"0,1\n.1,.9\n.5,NA\n", "line 3: 'NA' is not a number .a missing value"),
        ("x.csv", b"a,b\n50.5%,49.5%\n", "line 2: '50.5%': write the numbers without %"),
        ("x.csv", b"0:1\n0.5:0.5\n", "numbers parted by ':' are not read"),
        ("x.csv", b"1,2\n3,4,5\n", "x.csv, line 2: 3 columns, the first line has 2"),
        ("x.csv", b"", "x.csv is empty"),
        ("x.csv", b"\n \n", "x.csv is empty"),
        ("x.csv", b"a,b\n", "nothing below the header"),
        ("x.csv", "1,2".encode("utf-16"), "no text in UTF-8"),
        ("x.csv", b"a;b\n1,500;2,250\n", "line 2: '1,500' has a comma of decimals or of thousands"),
        ("x.csv", b"a;b\n1,5;2.5,5\n2,5;3\n", "line 2: '2.5,5' is not a number"),
        ("x.csv", b"0.5,1_0\n0.5,2\n", "line 1: '1_0' is not a number|'2'"),
        ("x.npy", _npy(np.zeros((2, 2, 2))), "shape .2, 2, 2. does not fit"),
        ("x.npy", _npy(np.zeros(())), "shape .. does not fit"),
        ("x.npy", _npy(np.array([1j])), "complex128 is not a type of numbers"),
        ("x.npy", b"", "cut off"),
        ("x.npy", b"hello there", "cut off, or no array of NumPy"),
        ("x.npy", _npy(np.zeros(9))[:-3], "cut off"),
        ("x.npy", _npy(np.array([{}], dtype=object), allow_pickle=True), "never loaded"),
        ("x.npz", b"PK", "cut off or damaged"),
        ("x.npz", _npy(np.zeros(9)), "cut off or damaged"),
        ("x.pt", b"", "files of type .pt are not read"),
        ("x", b"", "files of type .none. are not read"),
        ("x.npyy", b"", "did you mean '.npy'"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / name, "val")


def test_what_is_not_there(tmp_path: Path):
    with pytest.raises(UserError, match=r"x.npy does not exist"):
        read_numbers(tmp_path / "x.npy")
    with pytest.raises(UserError, match="is a folder"):
        read_numbers(tmp_path)
    whole = io.BytesIO()
    np.save(whole, np.zeros(3))
    for wrong in (b"(3,, ", b"((3, ", b"'3, "):  # what Python's own tokenizer raises comes out of NumPy
        (tmp_path / "x.npy").write_bytes(whole.getvalue().replace(b"(3,),", wrong))
        with pytest.raises(UserError, match="cut off, or no array of NumPy"):
            read_numbers(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", valid=np.zeros(3), test=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"x.npz: an array 'val' is needed, did you mean 'valid'\?"):
        read_numbers(tmp_path / "x.npz", "val")
    with pytest.raises(UserError, match=r"x.npz: one array is needed"):
        read_numbers(tmp_path / "x.npz")
    with pytest.raises(UserError, match=r"x.npz \(test\): it holds pickled Python objects"):
        read_numbers(tmp_path / "x.npz", "test")


@given(st.integers(0, 10_000), st.integers(1, 255), st.booleans())
def test_a_damaged_archive_is_never_a_traceback(tmp_path_factory, position, change, compressed):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, val=np.arange(40.0), test=np.arange(3.0))
    data = bytearray(buffer.getvalue())
    data[position % len(data)] ^= change
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    for content in (data, buffer.getvalue()[: position % len(data)]):
        path.write_bytes(content)
        for split in ("val", "test"):
            try:
                found = read_numbers(path, split)
            except UserError as error:
                assert "\n" not in str(error)
            else:
                np.testing.assert_array_equal(found, np.arange(40.0 if split == "val" else 3.0))


def test_text_without_end(tmp_path):
    """Wide, long and sparse files of text end in one line, before they fill the memory or take hours."""
    (wide := tmp_path / "wide.csv").write_text(",".join(["0.5"] * 30_000) + "\n")
    with pytest.raises(UserError, match=r"30,000 columns of text, at most 25,000 are read: save it as \.npy"):
        read_table(wide, "val")
    with (tmp_path / "sparse.csv").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(UserError, match=r"2,147,483,648 bytes are too many.*save it as \.npy"):
        read_table(tmp_path / "sparse.csv", "val")


def test_many_cells_of_text(tmp_path, monkeypatch):
    from lrensemble import opening

    monkeypatch.setattr(opening, "CELL", 1 << 50)
    (tmp_path / "a.csv").write_text("0.5,0.5\n" * 10)
    with pytest.raises(UserError, match="about 20 cells of text take too much memory"):
        read_table(tmp_path / "a.csv", "val")
