"""A job that another machine trains: in the same folder, or in a scratch pool whose members are sent."""

from __future__ import annotations

import functools
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from lrensemble import Pool, Ray, UserError, train_pool
from lrensemble.cli.main import main
from lrensemble.pool import Member
from lrensemble.pool.locks import FORCED, why_leases
from lrensemble.training import make_plan, remote
from lrensemble.training.executor import in_this_process
from lrensemble.training.member import Job
from lrensemble.training.on_ray import _execute
from lrensemble.training.remote import RemoteJob, files_of, files_of_all, marked, receive, train_remotely, versions
from lrensemble.training.runner import create_pool
from lrensemble.training.shard import Shard


@pytest.fixture
def job(config, tmp_path) -> Job:
    """The first run of a pool in which nothing is trained yet."""
    jobs: list[Job] = []

    def keep(given):
        jobs.extend(given)
        return iter(())

    train_pool(config, tmp_path / "p", threads=1, workers=1, devices="cpu", executor=keep, control=False)
    return jobs[0]


def asked(job: Job, **changes) -> str:
    return RemoteJob(job=job, mark=".on-1", versions={**versions(), **changes}).model_dump_json()


def sent_by(job: Job) -> dict[str, bytes]:
    return files_of_all(job.pool) | files_of(job.pool, [job.member(i) for i in job.members])


def test_a_pool_that_is_not_seen_is_trained_elsewhere_and_sent(job, trained: Path, monkeypatch):
    files = sent_by(job)
    away = job.pool.rename(job.pool.with_name("away"))  # so nothing can be written there
    answered = train_remotely(asked(job), files)
    away.rename(job.pool)
    assert answered["host"] == socket.gethostname() and answered["busy"] == []
    order: list[str] = []
    write = remote.write_bytes
    monkeypatch.setattr(remote, "write_bytes", lambda path, data: order.append(path.name) or write(path, data))
    assert receive(job, answered["sent"]) == []
    assert order[-1] == "record.json" and len(order) == 5
    (member,) = Pool.open(job.pool).complete
    assert member.id == job.members[0] and member.history()
    for name in ("predictions/val.npy", "predictions/test.npy", "weights.safetensors"):
        assert member.check_file(name).read_bytes() == (trained / "members" / member.id / name).read_bytes()
    finished, order[:] = member.record.finished, []
    assert receive(job, answered["sent"]) == [] and order == []  # sent twice: written once
    assert Member(member.path).record.finished == finished


def test_a_pool_that_is_seen_is_written_into(job):
    with marked(job.pool, ".on-1"):
        answered = train_remotely(asked(job), {})
    assert "sent" not in answered and len(Pool.open(job.pool).complete) == 1
    assert not list(job.pool.glob(".on-*"))


def test_workers_take_the_locks_that_the_sender_takes(job, monkeypatch):
    reasons = []
    monkeypatch.setattr(remote, "answer", lambda given: reasons.append(why_leases(given.pool)) or {"busy": []})
    monkeypatch.setenv(FORCED, "")  # so that it is taken away again afterwards
    monkeypatch.delenv(FORCED)  # a worker has the environment of its node, not the sender's
    request = RemoteJob.model_validate_json(asked(job))
    for leases in (False, True):
        with marked(job.pool, ".on-1"):
            train_remotely(request.model_copy(update={"leases": leases}).model_dump_json(), {})
    assert reasons == ["", "LRENSEMBLE_LEASES is set"]


class RayWithoutNews:
    """What is used of Ray, in this process; while nothing ends, gc cleans up."""

    class exceptions:
        RayError = RayTaskError = ZeroDivisionError

    def __init__(self, pool: Path) -> None:
        self.pool, self.waits = pool, 0

    def put(self, value):
        return value

    def remote(self, function):
        self.function = function
        return self

    def options(self, **options):
        return SimpleNamespace(remote=lambda *given: functools.partial(self.function, *given))

    def wait(self, going, *, num_returns, timeout):
        self.waits += 1
        if self.waits > 1:
            return going[:1], going[1:]
        (mark,) = self.pool.glob(".on-*.tmp")
        mark.unlink()
        return [], going

    def get(self, given):
        return given()

    def cancel(self, given, *, force):
        raise AssertionError("nothing is left")


@pytest.mark.filterwarnings("error")
def test_the_mark_of_a_long_training_stays(job):
    ended = list(_execute(RayWithoutNews(job.pool), [job], {"CPU": 1.0}, None, "a fake"))  # no warning of members sent
    assert [busy for _, busy in ended] == [[]] and len(Pool.open(job.pool).complete) == 1
    assert not list(job.pool.glob(".on-*"))


def test_a_copy_of_the_pool_is_no_shared_folder(job, tmp_path):
    copy = Path(shutil.copytree(job.pool, tmp_path / "copy"))
    answered = train_remotely(asked(job.model_copy(update={"pool": copy})), sent_by(job))
    assert list(answered["sent"]) == list(job.members)
    assert not Pool.open(copy).complete


@pytest.mark.parametrize("changes", [{"torch": "1.0"}, {"lrensemble": "0.0.1", "torch": "1.0"}])
def test_other_versions_are_named(job, changes):
    error = train_remotely(asked(job, **changes), {})["user_error"]
    assert all(f"{name} {versions()[name]} instead of {version}" in error for name, version in changes.items())
    assert "\n" not in error and not Pool.open(job.pool).complete


def test_what_arrives_damaged_or_has_a_strange_name_is_not_written(job):
    sent = train_remotely(asked(job), sent_by(job))["sent"]
    (member_id,) = sent
    cut = {member_id: {**sent[member_id], "predictions/val.npy": b"cut"}}
    with pytest.raises(UserError, match="arrived damaged"):
        receive(job, cut)
    record = sent[member_id]["record.json"].replace(b'"weights.safetensors"', b'"../../../thesis.tex"')
    strange = {member_id: {**sent[member_id], "record.json": record, "../../../thesis.tex": b"x" * 10}}
    with pytest.raises(UserError, match="arrived damaged"):
        receive(job, strange)
    assert not Pool.open(job.pool).complete and not (job.pool.parent / "thesis.tex").exists()


# What can be said without Ray.


@pytest.mark.parametrize(
    "text", ["rey", "ray://", "ray://host", "ray://host:port", "ray://me:secret@h:1", "ray://h:1/x"]
)
def test_addresses_that_are_none(text):
    with pytest.raises(UserError, match="--on is ray") as error:
        Ray.parse(text)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("entry", ["x", "x=", "x=0", "x=-1", "x=nan", "CPU=2", "GPU=1", "=1", "x=1=2"])
def test_resources_that_are_none(entry):
    with pytest.raises(UserError, match=r"resource .* is not possible"):
        Ray.parse("ray", [entry])
    assert Ray.parse("ray://h:10001", ["bigmem=1", "y=0.5"]).resources == {"bigmem": 1.0, "y": 0.5}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--on", "ray://127.0.0.1:1"], "ray://127.0.0.1:1 cannot be reached: Connection refused"),
        (["--on", "ray", "--shard", "1/2"], "--shard and --on are two ways to train the same runs"),
        (["--resource", "x=1"], "--resource is of a cluster: give --on too"),
        (["--on", "ray", "--device", "cuda:1"], "devices = 'cuda:1' is not possible with Ray"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_made(words, line, config, tmp_path, capsys):
    pytest.importorskip("ray")
    (tmp_path / "c.yaml").write_text(config.model_dump_json())
    assert main(["train", str(tmp_path / "c.yaml"), "--pool", str(tmp_path / "p"), *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and line in err
    assert not (tmp_path / "p").exists()


def test_two_engines_in_a_program(config, tmp_path):
    with pytest.raises(UserError, match="executor and shard are two ways"):
        train_pool(config, tmp_path / "p", executor=in_this_process, shard=Shard(1, 2))
    plan = make_plan(config, tmp_path / "p")
    create_pool(plan, plan.pool)
    assert Pool.open(plan.pool).members == []
