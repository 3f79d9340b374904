"""The text form: grids, positional values, and errors that name the value and the fix."""

from __future__ import annotations

import re
import time

import pytest

from lrensemble import Policy, UserError, parse_policies
from lrensemble.policies import Space


def test_grids_expand_in_order():
    texts = [str(p) for p in parse_policies("TRI(k0=[0.1,0.2], k1=0, l=[5e,10e])")]
    assert texts == [f"TRI(k0={k0}, l={length})" for k0 in (0.1, 0.2) for length in ("5e", "10e")]


def test_a_list_of_lists_is_a_grid_over_a_list():
    assert len(parse_policies("NSTEP(k0=0.1, gamma=0.1, l=[10e,20e])")) == 1
    assert len(parse_policies("NSTEP(k0=0.1, gamma=0.1, l=[[10e,20e],[15e]])")) == 2


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("fix(0.1)", "FIX(k0=0.1)"),
        ("STEP(.1,0.5,30)", "STEP(k0=0.1, gamma=0.5, l=30)"),
        ("EXP( k0 = 1e-3 , gamma=0.99 )", "EXP(k0=0.001, gamma=0.99)"),
        ("COS(0.1, 1e-5, 1e3)", "COS(k0=0.1, k1=1e-05, l=1000)"),
        ("COS(k0=0.1,k1=0,l=12.5%)", "COS(k0=0.1, l=12.5%)"),
        ("COS(0, 1, 100%)", "COS(k0=0, k1=1, l=100%)"),
        ("COS(0.1, l=100%)", "COS(k0=0.1, l=100%)"),
        ("NSTEP(0.1,0.1,[0,10])", "NSTEP(k0=0.1, gamma=0.1, l=[0,10])"),
        ("TRI(0.1,0,500)", "TRI(k0=0.1, l=500)"),
        ("EXP(1E-03, 0.9)", "EXP(k0=0.001, gamma=0.9)"),
    ],
)
def test_canonical_form(short, long):
    assert str(Policy.parse(short)) == long


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("STP(0.1)", "unknown LR policy 'STP': did you mean 'STEP'"),
        ("STEP(k0=0.1, gama=0.1, l=3)", "unknown parameter 'gama': did you mean 'gamma'"),
        ("STEP(k0=0.1, gamma=-0.1, l=3)", "gamma = -0.1 is not possible: it must be a number > 0 and <= 1"),
        ("STEP(k0=0.1, gamma=0.1, l=0)", "l = 0 is not possible: it must be a length > 0"),
        ("STEP(k0=0.1, gamma=0.1, l=0e)", "l = 0e is not possible"),
        ("STEP(k0=0.1, gamma=0.1)", "l is missing"),
        ("FIX(k0=-0.1)", "k0 = -0.1"),
        ("FIX(k0=5e)", "k0 = 5e is not possible"),
        ("FIX(k0=1e999)", "a finite number expected, found '1e999'"),
        ("NSTEP(k0=0.1, gamma=0.1, l=[20,10])", "ascending"),
        ("FIX(k0=0.1, k0=0.2)", "k0 twice"),
        ("FIX(0.1, 0.2)", "more values than parameters"),
        ("FIX(0.1", "',' expected, found the end"),
        ("FIX(0.1))", "after its end"),
        ("FIX(k0=[])", "a finite number expected"),
        ("FIX(k0=nan)", "k0 = nan is not possible"),
        ("COS(k0=0.1, l=10s)", "found 's'"),
        ("", "found the end"),
        ("FIX;", "cannot read policy"),
        # Decimal commas, everywhere where they could be two values.
        ("COS(k0=0,05, l=100%)", "'05' has no name, but stands after k0= (0,05? write 0.05)"),
        ("cosine(k0=0,1)", "'1' has no name, but stands after k0= (0,1? write 0.1)"),
        ("ONECYCLE(k0=0, 1)", "(0,1? write 0.1)"),
        ("WARMUP(COS(k0=0.1, l=100%), l=2,5e)", "(2,5e? write 2.5e)"),
        ("SEQ([COS(k0=0,1, l=1e), FIX(1)], at=[1e])", "(0,1? write 0.1)"),
        ("STEP(k0=0.1, 0.5, 30)", "'0.5' has no name, but stands after k0=: write name=value"),
        ("FIX(0,05)", "has more values than parameters (k0) (0,05? write 0.05)"),
        ("COS(0.1, 0,5, 100%)", "(0,5? write 0.5)"),
        ("COS(0, 05, 100%)", "(0,05? write 0.05)"),
        ("FIX(k0=[0,05, 0,1])", "(0,05? write 0.05)"),
        ("FIX(k0=log(0,001, 1))", "(0,001? write 0.001)"),
        ("COS(0.1, 0, 05e)", "'05e' starts with a 0 that means nothing (0,05e? write 0.05e)"),
        ("FIX(00.5)", "'00.5' starts with a 0 that means nothing: write 0.5"),
        ("FIX(k0=[0,1])", "is 0,1 one number or two? (0,1? write 0.1), or 0, 1 for two values"),
        ("COS(k0=[0.5, 0,1, 0.2], l=100%)", "is 0,1 one number or two?"),
        ("COS(k0=0.1, l=1,000)", "(1,000? write 1.000 or 1000)"),
        ("cosine(0,1)", "is 0,1 one number or two? (0,1? write 0.1), or 0, 1 for two values"),
    ],
)
def test_errors_name_the_value(text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse_policies(text)


def test_a_grid_is_not_one_policy():
    with pytest.raises(UserError, match="grid of 2 policies"):
        Policy.parse("FIX(k0=[0.1,0.2])")


def test_shares_are_exact():
    """25 % of 1,860 steps is step 465: one rounding more, and a drop came a step late."""
    for percent, total in ((25, 1860), (25, 880), (20, 5052), (12.5, 5052), (75, 1860), (10, 5052)):
        length = Policy.parse(f"STEP(0.1, 0.5, {percent}%)").bind(steps_per_epoch=1, total_steps=total)["l"]
        assert length.value * 100 == percent * total


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"TRI(k0=[{','.join(['0.1'] * 2000)}], k1=[{','.join(['0.2'] * 2000)}], l=5)", "a grid of 4,000,000 policies"),
        ("SCALE(of=" * 40 + "FIX(k0=[1,2])" + ", by=[1,2,3,4])" * 40, r"a grid of more than 10\^15 policies"),
        ("SEQ([" + ", ".join(["SCALE(of=[FIX(k0=[1,2,3,4]), FIX(1)])"] * 50) + "], at=[1])", "more than 10"),
        ("SCALE(of=" * 200 + "FIX(0.1)" + ")" * 200, "more than 50 policies or lists inside each other"),
        ("NSTEP(k0=0.1, gamma=0.1, l=" + "[" * 100_000, "more than 50 policies or lists"),
        ("(" * 600_000, "unknown LR policy"),
        ("FIX" + "(" * 600_000, "found"),
        ("FIX(" * 150_000, "more than 50"),
        ("FIX(k0=0.1)" + " " * 600_000 + "x", "after its end"),
        ("FIX(k0=0.1) " + "\n" * 600_000 + "%", "cannot read policy"),
        ("FIX(k0=" + "9" * 600_000 + ")", "cannot read policy"),
        ("x" * 600_000, "cannot read policy"),
        ("POINTS(at=[" + ",".join(map(str, range(2_000_000))) + "], k=[1])", "characters, at most 1,000,000 are read"),
    ],
    ids=lambda value: value[:20],
)
def test_a_text_of_a_stranger_ends_in_one_short_line_at_once(text, message):
    start = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        parse_policies(text)
    with pytest.raises(UserError):
        Policy.parse(text)
    assert time.process_time() - start < 10
    assert len(str(caught.value)) < 2000


def test_a_choice_in_a_space_is_counted_before_it_is_built():
    values = ",".join(["0.1"] * 2000)
    with pytest.raises(UserError, match="a choice between more than 100,000 policies"):
        Space.parse(f"SCALE(of=[TRI(k0=[{values}], k1=[{values}], l=5)], by=log(0.1, 1))")


def test_one_policy_is_asked_for_before_a_grid_is_built():
    values = ",".join(["0.1"] * 300)
    start = time.process_time()
    with pytest.raises(UserError, match="a grid of 90,000 policies where one is needed"):
        Policy.parse(f"TRI(k0=[{values}], k1=[{values}], l=5)")
    assert time.process_time() - start < 2


def test_a_long_table_of_points_is_read():
    n = 50_000
    policy = Policy.parse(f"POINTS(at=[{','.join(map(str, range(n)))}], k=[{','.join(['0.1'] * n)}])")
    assert policy(7) == 0.1
