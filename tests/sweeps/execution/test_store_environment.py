"""What workers are given of the driver's environment: the store, and no key."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ray.tune.execution import class_cache

from sweeps.errors import InputError, Refusal
from sweeps.execution import store_environment
from sweeps.execution.connection.ray_internals import copied_variables
from sweeps.execution.remote_tasks import claim_code
from sweeps.execution.store_environment import (
    adopt_store,
    credentials_advice,
    credentials_withheld,
    with_advice,
)
from sweeps.experiment.worker_context import WorkerContext
from sweeps.hashing import code_digest
from sweeps.io.filesystem import store_settings
from sweeps.io.import_guard import home
from sweeps.planning.failures import last_line
from sweeps.planning.plan import make_plan
from sweeps.storage.provenance import describe_error
from sweeps.storage.retry import storage_error, with_retries

PLANTED = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDPLANTED01",
    "AWS_SECRET_ACCESS_KEY": "planted/Secret+1",
    "AWS_SESSION_TOKEN": "plantedSecretToken",
    "AWS_SECURITY_TOKEN": "plantedSecretToken",
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """An environment without AWS, and what a worker adopts is forgotten afterwards."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    yield monkeypatch
    monkeypatch.undo()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def planted(bare: pytest.MonkeyPatch) -> None:
    """Keys of a driver."""
    for name, value in PLANTED.items():
        bare.setenv(name, value)


# -- credentials stay with the driver -------------------------------------------------------------------


def test_tune_copies_no_credential_and_else_what_it_did(planted: None, bare: pytest.MonkeyPatch) -> None:
    bare.setenv("RAY_TRAIN_V2_ENABLED", "1")
    assert set(PLANTED) < set(copied_variables() or {})
    with credentials_withheld():
        copied = copied_variables() or PLANTED
        assert set(copied) & {*PLANTED, "RAY_TRAIN_V2_ENABLED"} == {"RAY_TRAIN_V2_ENABLED"}
    assert set(PLANTED) < set(copied_variables() or {})


def test_the_actors_of_a_run_hold_no_credential(planted: None, bare: pytest.MonkeyPatch) -> None:
    """`run_packs` itself, up to where Tune would start."""
    seen: list[Any] = []

    class Tuner:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            seen.append(copied_variables() or PLANTED)

        def fit(self) -> None:
            """Nothing."""

    from sweeps.execution import tune

    class Compute:
        limit_minutes = None

    class Stub:
        compute = Compute()
        experiment: Any = None

    stub = Stub()
    stub.experiment = stub
    bare.setattr(tune.tune, "Tuner", Tuner)
    tune.run_packs(stub, context(), {"CPU": 1}, 1, lambda: None)  # type: ignore[arg-type]
    assert [set(copied) & set(PLANTED) for copied in seen] == [set()]


@pytest.mark.parametrize("change", ["another name", "another maker"])
def test_a_tune_that_cannot_be_kept_from_it_is_refused(planted: None, bare: pytest.MonkeyPatch, change: str) -> None:
    if change == "another name":
        copying = class_cache._ActorClassCache

        class Other(copying):  # type: ignore[misc, valid-type]
            def get(self, trainable_cls: Any) -> Any:
                import ray

                return ray.remote(runtime_env={"env_vars": dict(PLANTED)})(trainable_cls)

        bare.setattr(class_cache, "_ActorClassCache", Other)
        bare.delattr(class_cache, "ENV_VARS_TO_PROPAGATE")
    else:
        bare.delattr(class_cache, "_ActorClassCache")
    with (
        pytest.raises(InputError, match=r"AWS_ACCESS_KEY_ID: Ray .* would write it into its logs") as caught,
        credentials_withheld(),
    ):
        pytest.fail("began")
    assert "lanted" not in str(caught.value)
    for name in (*PLANTED, "AWS_CONFIG_FILE"):
        bare.delenv(name, raising=False)
    for name in [name for name in os.environ if store_environment.is_credential(name)]:
        bare.delenv(name)
    with credentials_withheld():
        pass  # nothing to leak


def test_the_advice_names_every_way_and_no_key(planted: None) -> None:
    line = with_advice("NoCredentialsError: Unable to locate credentials")
    assert line == f"NoCredentialsError: Unable to locate credentials; {credentials_advice(True)}"
    assert all(word in line for word in ("stay with the driver", "role", "~/.aws/credentials", "ray start"))
    assert with_advice("RuntimeError: no memory") == "RuntimeError: no memory"


def test_credentials_in_a_jobs_runtime_environment_are_warned_of(bare: pytest.MonkeyPatch) -> None:
    class Context:
        runtime_env: ClassVar[Any] = {"env_vars": {**PLANTED, "AWS_REGION": "eu-west-1", "OMP_NUM_THREADS": "1"}}

    bare.setattr(store_environment.ray, "get_runtime_context", Context)
    with pytest.warns(UserWarning, match=r"AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, .* can be read") as caught:
        store_environment.warn_of_credentials()
    assert "lanted" not in str(caught[0].message)
    assert "AWS_REGION" not in str(caught[0].message)


@pytest.mark.parametrize(
    "describe",
    [
        describe_error,
        lambda error: last_line(f"Traceback:\n  File x\nPermissionError: {error}"),
        lambda error: str(storage_error("s3://lab/rows", error)),
    ],
)
def test_no_text_of_an_error_holds_a_secret(planted: None, describe: Callable[[Exception], str]) -> None:
    text = (
        "PUT https://host/a?X-Amz-Credential=AKIAOTHEROTHEROTHER1%2F2026&X-Amz-Signature=otherSecret planted/Secret+1"
    )
    line = describe(OSError(text))
    assert "https://host/a" in line
    assert "Secret" not in line.replace("AWS_SECRET", "")
    assert "AKIA" not in line


def test_the_warning_of_a_store_that_is_away_holds_no_secret(planted: None, caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = [ConnectionError("planted/Secret+1 at http://lab:plantedSecretX@host"), "there"]

    def ask() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with caplog.at_level("WARNING", "sweeps"):
        assert with_retries(ask, "s3://lab/rows", 10) == "there"
    assert "does not answer" in caplog.text
    assert "lanted" not in caplog.text


# -- which store is meant goes along --------------------------------------------------------------------


def context(**store: str) -> WorkerContext:
    """A context of which only the store counts."""
    experiment = {"name": "small", "recordings": [], "probes": {}, "search": {"halving": None}}
    return WorkerContext(experiment, "", "s3://lab", "", {}, {}, {}, code_digest(home()), store=store)


def test_a_worker_takes_endpoint_and_region_where_its_node_has_none() -> None:
    claim_code(context(endpoint="http://127.0.0.1:9000", region="eu-west-1"))
    assert store_settings() == {"endpoint": "http://127.0.0.1:9000", "region": "eu-west-1"}
    assert os.environ["AWS_REGION"] == "eu-west-1"
    claim_code(context(endpoint="http://127.0.0.1:9001", region=""))  # a later sweep in the same process
    assert store_settings() == {"endpoint": "http://127.0.0.1:9001", "region": ""}
    assert "AWS_REGION" not in os.environ


def test_a_node_with_another_store_is_refused_in_one_line(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("AWS_ENDPOINT_URL", "http://10.0.0.2:9000")
    for theirs in ("http://10.0.0.1:9000", ""):
        with pytest.raises(Refusal) as caught:
            claim_code(context(endpoint=theirs, region=""))
        line = str(caught.value)
        assert socket.gethostname() in line
        assert "http://10.0.0.2:9000" in line
        assert (theirs or "that of AWS") in line
        assert "\n" not in line
    claim_code(context(endpoint="http://10.0.0.2:9000", region=""))
    claim_code(context())  # a sweep without S3
    bare.setenv("AWS_DEFAULT_REGION", "us-east-1")
    claim_code(context(endpoint="http://10.0.0.2:9000", region=""))  # a region of its own is nothing else
    with pytest.raises(Refusal, match=r"the S3 region on node .* is 'us-east-1', for the driver 'eu-west-1'"):
        claim_code(context(endpoint="http://10.0.0.2:9000", region="eu-west-1"))


BOTH = {"AWS_ENDPOINT_URL": "http://a:1", "AWS_ENDPOINT_URL_S3": "http://b:1"}
PROFILE = "[default]\nregion = eu-north-1\nendpoint_url = http://c:1\n"
SERVICES = "[profile lab]\nservices = lab\nregion = eu-west-2\n[services lab]\ns3 =\n  endpoint_url = http://d:1\n"
CONFIGURED: list[tuple[str, dict[str, str], str, str]] = [
    (PROFILE, {}, "http://c:1", "eu-north-1"),
    (SERVICES, {"AWS_PROFILE": "lab"}, "http://d:1", "eu-west-2"),
    (PROFILE, {"AWS_ENDPOINT_URL": "http://a:1"}, "http://a:1", "eu-north-1"),
    (PROFILE, {**BOTH, "AWS_DEFAULT_REGION": "eu-west-3"}, "http://b:1", "eu-west-3"),
    (PROFILE, {**BOTH, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, "", "eu-north-1"),
]


@pytest.fixture(params=CONFIGURED)
def configured(request: pytest.FixtureRequest, bare: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, str]:
    """Endpoint and region of an AWS configuration file and variables, which are set."""
    content, variables, endpoint, region = request.param
    (tmp_path / "config").write_text(content)
    for name, value in variables.items():
        bare.setenv(name, value)
    return endpoint, region


def test_settings_come_from_variables_and_the_configuration_file(configured: tuple[str, str]) -> None:
    assert tuple(store_settings().values()) == configured


@pytest.mark.slow
def test_settings_are_those_that_botocore_finds(configured: tuple[str, str]) -> None:
    import boto3  # type: ignore[import-untyped]

    client = boto3.session.Session().client("s3", aws_access_key_id="a", aws_secret_access_key="b")
    endpoint, region = configured
    assert client.meta.region_name == region
    assert client.meta.endpoint_url == (endpoint or f"https://s3.{region}.amazonaws.com")


def test_a_profile_that_is_not_there_is_refused_in_one_line(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(InputError, match=r"AWS configuration: cannot be used: .*nobody"):
        store_settings()
    with pytest.raises(Refusal, match=r"on node .*nobody"):
        adopt_store(context(endpoint="", region=""))


def test_a_plan_gives_its_workers_the_store_where_it_is_on_s3(
    experiment: dict[str, Any], bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dataclasses import replace

    bare.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    plan = make_plan(experiment, storage=str(tmp_path / "rows"))
    assert plan.context().store == {}
    there = replace(plan, storage="s3://lab/rows").context()
    assert there.store == {"endpoint": "http://127.0.0.1:9000", "region": ""}
    for name, value in PLANTED.items():
        bare.setenv(name, value)
    assert "lanted" not in replace(plan, storage="s3://lab/rows").context().as_config()


def test_credentials_in_an_experiment_or_its_options_are_refused(
    experiment: dict[str, Any], bare: pytest.MonkeyPatch
) -> None:
    url = "s3://AKIAPLANTEDPLANTED01:planted/Secret@lab/rows"
    recordings = [{**experiment["recordings"][0], "path": url}]
    cases: list[tuple[dict[str, Any], dict[str, str], str]] = [
        ({}, {"storage": url}, "--storage"),
        ({}, {"data": url}, "--data"),
        ({"storage": url}, {}, "storage"),
        ({"recordings": recordings}, {}, "recordings.0.path"),
    ]
    for change, options, key in cases:
        with pytest.raises(InputError, match="holds credentials") as caught:
            make_plan({**experiment, **change}, **options)
        assert caught.value.key == key
        assert "lanted" not in str(caught.value)
    bare.setenv("AWS_ENDPOINT_URL", "http://lab:plantedSecret@127.0.0.1:9000")
    with pytest.raises(InputError, match=r"AWS_ENDPOINT_URL = .*holds credentials") as caught:
        make_plan(experiment, storage="s3://lab/rows")
    assert "lanted" not in str(caught.value)
