"""Losses by rows: against torch's own reductions and formulas by hand; weights; what a configuration may say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lrensemble import UserError
from lrensemble.pool import Named, Training
from lrensemble.tasks.losses import bce, check_loss, cross_entropy, focal, row_losses
from tests.training.runs import specs_of, train

torch.manual_seed(0)
SCORES, Y = torch.randn(40, 5), torch.randint(0, 5, (40,))
COUNTS = (10, 20, 30, 5, 35)


def training(**values) -> Training:
    return Training(epochs=1, **values)


def of(loss: dict, **values) -> torch.Tensor:
    return row_losses(SCORES, {"y": Y}, training(loss=loss, **values), COUNTS)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing):
    ours = of({"name": "cross_entropy"}, label_smoothing=smoothing)
    assert ours.shape == (40,)
    torch.testing.assert_close(ours.mean(), F.cross_entropy(SCORES, Y, label_smoothing=smoothing))


def test_focal_and_bce_by_hand():
    p = SCORES.softmax(1)[torch.arange(40), Y]
    torch.testing.assert_close(focal(SCORES, Y, gamma=3.0), -((1 - p) ** 3) * p.log())
    torch.testing.assert_close(focal(SCORES, Y, gamma=0.0), cross_entropy(SCORES, Y))
    sigmoid, hot = SCORES.sigmoid(), F.one_hot(Y, 5)
    by_hand = -(hot * sigmoid.log() + (1 - hot) * (1 - sigmoid).log()).mean(1)
    torch.testing.assert_close(bce(SCORES, Y), by_hand)


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    y = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS)).numpy()
    weights = torch.tensor(compute_class_weight("balanced", classes=np.arange(5), y=y), dtype=torch.float32)
    ours = of({"name": "cross_entropy", "weights": "balanced"})
    torch.testing.assert_close(ours, weights[Y] * F.cross_entropy(SCORES, Y, reduction="none"))


def test_the_mean_weight_over_the_training_rows_is_one():
    """So that an LR means the same with weights and without."""
    given = [1.0, 2.0, 3.0, 4.0, 5.0]
    ours = of({"name": "cross_entropy", "weights": given}) / of({"name": "cross_entropy"})
    by_class = {int(y): float(w) for y, w in zip(Y, ours, strict=True)}
    assert sum(by_class[c] * n for c, n in enumerate(COUNTS)) / sum(COUNTS) == pytest.approx(1, rel=1e-5)
    assert by_class[4] / by_class[0] == pytest.approx(5, rel=1e-5)


def test_mixed_rows_have_both_classes():
    other, share = torch.randint(0, 5, (40,)), torch.full((40,), 0.3)
    batch = {"y": Y, "other_y": other, "share": share}
    target = 0.3 * F.one_hot(Y, 5) + 0.7 * F.one_hot(other, 5)
    ours = row_losses(SCORES, batch, training(), COUNTS)
    torch.testing.assert_close(ours, -(target * SCORES.log_softmax(1)).sum(1))


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ({"name": "crossentropy"}, "unknown loss 'crossentropy': did you mean 'cross_entropy'"),
        ({"name": "focal", "gama": 2}, "unknown parameter 'gama': did you mean 'gamma'"),
        ({"name": "focal", "gamma": -1}, "gamma = -1 is not possible"),
        ({"name": "bce", "weights": "balance"}, "weights = balance: 'balanced'"),
        ({"name": "bce", "weights": [0, 0]}, "weights = \\[0, 0\\]"),
    ],
)
def test_bad_losses_are_one_line(loss, words):
    named = Named.model_validate(loss)
    with pytest.raises(UserError, match=words):
        check_loss(named.name, named.parameters)


def test_too_few_weights_are_one_line():
    with pytest.raises(UserError, match="has 2 numbers, but there are 5 classes"):
        of({"name": "cross_entropy", "weights": [1, 2]})


@pytest.mark.parametrize("loss", ["{name: focal, gamma: 1.5}", "bce", "{name: cross_entropy, weights: balanced}"])
@pytest.mark.parametrize("more", [(), ("training.clip=0.5",)])
def test_a_run_learns_with_any_of_them(loss, more):
    [spec] = specs_of(["FIX(0.1)"], f"training.loss={loss}", *more)
    outcome = train(spec)
    assert outcome.status == "complete"
    assert outcome.history[-1]["val_accuracy"] > 0.5  # ten classes


def test_options_at_their_defaults_leave_ids_alone():
    [plain] = specs_of(["FIX(0.1)"])
    [named] = specs_of(["FIX(0.1)"], "training.loss=cross_entropy")
    [focal_] = specs_of(["FIX(0.1)"], "training.loss=focal")
    assert plain.id("x") == named.id("x") != focal_.id("x")
