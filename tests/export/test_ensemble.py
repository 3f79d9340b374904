"""`Ensemble` as a module and as a scikit-learn classifier."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, get_scorer
from sklearn.utils.validation import check_is_fitted

from lrensemble import Ensemble, UserError
from tests.export.test_write import stored


def test_from_a_pool_and_from_a_folder(shipped, digits):
    pool, folder = shipped
    images = digits.test.images
    for team in (Ensemble.load(folder), Ensemble.load(str(pool.path), "all-weighted")):
        expected = stored(pool, "all-weighted")
        with torch.no_grad():
            found = team(torch.from_numpy(images))
        assert isinstance(team, torch.nn.Module)
        assert (found.dtype, found.shape) == (torch.float32, (450, 10))
        assert np.abs(found.numpy() - expected).max() < 1e-5
        assert torch.equal(team.train()(torch.from_numpy(images[:5])), team.eval()(torch.from_numpy(images[:5])))
        assert torch.equal(team(torch.from_numpy(images[:5]).float()), team(torch.from_numpy(images[:5])))
        with pytest.raises(ValueError, match=r"rows must be \(B, 1, 8, 8\), not \(5, 8, 8\)"):
            team(torch.zeros(5, 8, 8))


def test_as_a_classifier(shipped, digits):
    pool, folder = shipped
    team = Ensemble.load(folder)
    images, labels = digits.test.images, digits.test.labels
    p = team.predict_proba(images)
    np.testing.assert_array_equal(team.classes_, np.arange(10))
    np.testing.assert_array_equal(team.predict(images), p.argmax(1))
    assert team.score(images, labels) == accuracy_score(labels, stored(pool, "all-weighted").argmax(1))
    assert get_scorer("neg_log_loss")(team, images, labels) == pytest.approx(
        np.log(np.maximum(p[np.arange(450), labels], 1e-15)).mean(), rel=1e-4
    )
    for same in (images[:, 0], images.transpose(0, 2, 3, 1), images.reshape(450, 64), images.astype(float)):
        np.testing.assert_allclose(team.predict_proba(same), p, atol=1e-6)
    assert is_classifier(team)
    check_is_fitted(team)
    assert team.predict_proba(images[:0]).shape == (0, 10)
    with pytest.raises(UserError, match="fitted already"):
        team.fit(images, labels)
    with pytest.raises(ValueError, match=r"rows of shape \(450, 63\)"):
        team.predict(images.reshape(450, 64)[:, 1:])


def test_what_cannot_be_loaded(shipped, tmp_path):
    pool, folder = shipped
    with pytest.raises(UserError, match=r"is a pool: say which team of it \(it has all, all-weighted\)"):
        Ensemble.load(pool.path)
    with pytest.raises(UserError, match="is no exported team"):
        Ensemble.load(tmp_path)
    with pytest.raises(UserError, match="holds no team as onxx"):
        Ensemble.load(folder, format="onxx")
    (tmp_path / "team.json").write_bytes((folder / "team.json").read_bytes())
    (tmp_path / "team.pt2").write_bytes((folder / "team.pt2").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"team\.pt2: cut off, damaged or replaced since the export"):
        Ensemble.load(tmp_path)


class Exploit:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("attack", ["sample", "weight", "target", "guard", "size", "extra"])
def test_a_program_that_holds_code_is_refused(shipped, tmp_path, attack):
    """The hash in team.json is no protection against whoever wrote both files."""
    from lrensemble.export.formats import read_module

    path = tmp_path / "team.pt2"
    with zipfile.ZipFile(shipped[1] / "team.pt2") as source, zipfile.ZipFile(path, "w") as changed:
        for name in source.namelist():
            data = source.read(name)
            if attack == "sample" and "sample_inputs" in name:
                data = pickle.dumps(Exploit())
            if attack == "weight" and name.endswith("model_weights_config.json"):
                data = data.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
            if name.endswith("models/model.json"):
                program = json.loads(data)
                if attack == "target":
                    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"
                if attack == "guard":
                    program["guards_code"] = ["print('executed')"]
                data = json.dumps(program).encode()
                if attack == "size":
                    assert b"Symbol(" in data
                    data = data.replace(b"Symbol(", b"__import__('os').system(", 1)
            changed.writestr(name, data)
        if attack == "extra":
            changed.writestr("archive/data/constants/custom_obj_0.pt", pickle.dumps(Exploit()))
    with pytest.raises(UserError, match=r"team\.pt2 is not loaded: .*; a team's file holds tensor operations alone"):
        read_module("torch", path)


def test_a_damaged_program(tmp_path):
    from lrensemble.export.formats import read_module

    path = tmp_path / "team.pt2"
    path.write_text("nothing of the kind")
    with pytest.raises(UserError, match=r"cut off, or no program of torch\.export"):
        read_module("torch", path)
