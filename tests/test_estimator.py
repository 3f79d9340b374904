"""`LREnsembleClassifier`, by scikit-learn's own checks, within its tools, and as a pool that stays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from torch import nn

from lrensemble import LREnsembleClassifier, Pool, evaluate
from lrensemble.tasks.load import OBJECTS

SMALL = LREnsembleClassifier("FIX(k0=[0.1, 0.03])", epochs=15, batch_size=16, devices="cpu")
QUICK = {  # the others fit often, or large data
    "check_estimator_cloneable",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_estimators_unfitted",
    "check_dont_overwrite_parameters",
    "check_estimators_nan_inf",
    "check_estimators_pickle",
    "check_fit2d_1sample",
    "check_classifiers_one_label",
    "check_classifiers_regression_target",
    "check_methods_subset_invariance",
    "check_n_features_in_after_fitting",
    "check_dict_unchanged",
}
X, Y = load_breast_cancer(return_X_y=True, as_frame=True)


def name_of(check) -> str:
    return getattr(check, "func", check).__name__


@pytest.mark.parametrize("check", [c for _, c in estimator_checks_generator(SMALL) if name_of(c) in QUICK], ids=name_of)
def test_some_of_scikit_learns_checks(check):
    check(clone(SMALL))


@pytest.mark.slow
@parametrize_with_checks([SMALL])
def test_all_of_scikit_learns_checks(estimator, check):
    check(estimator)


def test_within_scikit_learn():
    before = set(OBJECTS)
    model = make_pipeline(QuantileTransformer(n_quantiles=30), clone(SMALL).set_params(epochs=5, random_state=0))
    assert cross_val_score(model, X, Y, cv=2).mean() > 0.9
    names = np.array(["malignant", "benign"])[Y]
    found = clone(SMALL).set_params(epochs=5, random_state=0).fit(X, names)
    assert list(found.classes_) == ["benign", "malignant"]
    assert list(found.feature_names_in_) == list(X.columns)
    assert found.score(X, names) > 0.9
    np.testing.assert_array_equal(found.predict(X), clone(found).fit(X, names).predict(X))
    assert set(OBJECTS) == before  # no rows stay in memory


class Net(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Linear(input_shape[0], num_classes)

    def forward(self, x):
        return self.layers(x)


def test_a_pool_that_stays_has_a_test_split_and_is_not_trained_again(tmp_path):
    model = clone(SMALL).set_params(
        epochs=3, model=Net, pool=tmp_path / "pool", random_state=0, training={"loss": "focal"}, selector="all"
    )
    model.fit(X, Y)
    pool = Pool.open(tmp_path / "pool")
    rows = pool.task.rows
    assert (rows["test"], sum(rows.values())) == (142, 569)
    assert evaluate(pool).scores[0].accuracy > 0.85
    times = {path: path.stat().st_mtime_ns for path in pool.path.glob("members/*/record.json")}
    assert len(times) == 2
    again = clone(model).fit(X, Y)
    assert times == {path: path.stat().st_mtime_ns for path in pool.path.glob("members/*/record.json")}
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match="is a pool for other data"):
        clone(model).set_params(random_state=1).fit(X, Y)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"selector": "gredy"}, "gredy"),
        ({"policies": "FIXX(k0=0.1)"}, "FIXX"),
        ({"model": "mlpp"}, "did you mean 'mlp'"),
        ({"epochs": 0}, "training.epochs = 0"),
        ({"val_fraction": 2}, "val_fraction=2 is not possible"),
        ({"val_fraction": 0}, "val_fraction=0 is not possible"),
    ],
)
def test_options_that_are_not_possible(changes, words):
    with pytest.raises(ValueError, match=words):
        clone(SMALL).set_params(**changes).fit(X[:40], Y[:40])


def test_rare_classes_are_trained_on():
    y = np.array([0] * 20 + [1] * 20 + [2])
    found = clone(SMALL).fit(pd.DataFrame(np.c_[y, y]).to_numpy(float) + np.random.default_rng(0).random((41, 2)), y)
    assert list(found.classes_) == [0, 1, 2]
    assert found.predict_proba(np.zeros((2, 2))).shape == (2, 3)
