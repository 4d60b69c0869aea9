"""The folder and the token of an own Ray, without starting one; the cache of its workers."""

from __future__ import annotations

import os
import platform
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps import interrupts
from sweeps.commands.run import run_plan
from sweeps.errors import InputError, Refusal
from sweeps.execution.connection import ray_internals, ray_session
from sweeps.execution.connection.ray_session import own_token, private_folder, token_file
from sweeps.execution.remote_tasks import claim_code
from sweeps.experiment.worker_context import WorkerContext
from sweeps.io.disk_cache import warn_once
from sweeps.io.import_guard import check_names
from sweeps.planning.plan import make_plan

STRANGER = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
VARIABLES = ("HOME", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR", "XDG_RUNTIME_DIR")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture
def home() -> Iterator[Path]:
    """A short home folder of a user without settings of Ray."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    for name in VARIABLES:
        os.environ.pop(name, None)
    place = Path("/tmp", f"h{os.getpid()}")
    place.mkdir(mode=0o755)
    os.environ["HOME"] = str(place)
    warn_once.cache_clear()
    yield place
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    ray_internals.forget_token()
    shutil.rmtree(place)


# -- a worker's cache -----------------------------------------------------------------------------------


def test_a_worker_refuses_a_cache_that_others_can_write_unless_it_is_shared(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    context = WorkerContext({}, "", "", str(cache), {}, {}, {}, digest=check_names())
    with pytest.raises(Refusal, match=r"cache = .*--shared-cache"):
        claim_code(context)
    claim_code(replace(context, shared_cache=True))
    assert mode_of(cache / f"user-{os.geteuid()}") == 0o700


def test_a_run_refuses_a_cache_that_others_can_write_before_it_writes(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    plan = make_plan(experiment, storage=str(tmp_path / "rows"), cache=str(cache))
    with pytest.raises(InputError, match=r"cache = .*--shared-cache"):
        run_plan(plan)
    assert not (tmp_path / "rows").exists()
    assert replace(plan, shared_cache=True).context().shared_cache


# -- the folder -----------------------------------------------------------------------------------------


def test_rays_files_lie_in_a_private_folder_of_the_users_cache(home: Path) -> None:
    with private_folder() as folder:
        assert folder == home / ".cache" / "sweeps-ray" / "s"
        assert mode_of(folder.parent) == 0o700
    folder.parent.chmod(0o777)
    with private_folder():
        assert mode_of(folder.parent) == 0o700


def test_a_home_that_is_too_long_or_cannot_be_written_gives_way(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = home / ("x" * 90)
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr("tempfile.tempdir", str(long))
    for place in (str(long), "/proc/nobody", "/dev/null"):
        monkeypatch.setenv("HOME", place)
        with private_folder() as folder:
            assert folder == Path(f"/tmp/sweeps-ray-{os.geteuid()}/s")
            assert mode_of(folder.parent) == 0o700
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
        with private_folder() as folder:
            assert folder == home / "run" / "sweeps-ray" / "s"
        monkeypatch.delenv("XDG_RUNTIME_DIR")


def test_a_signal_that_ends_what_ray_waits_for_is_no_fault_of_rays(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGTERM to a whole group ends Ray's servers too; its driver then raises that they did not come up."""
    starts: list[Path] = []

    def start(folder: Path, **arguments: Any) -> None:
        starts.append(folder)
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("no port of the GCS")

    monkeypatch.setattr(ray_internals, "start", start)
    with pytest.raises(interrupts.Interrupted), interrupts.handled(), ray_session.own_ray():
        raise AssertionError
    assert len(starts) == 1
    assert not caplog.messages


def test_the_longest_socket_fits_and_one_byte_more_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = f"/sweeps-ray-{os.geteuid()}/s"
    room = ray_session.SOCKET_BYTES - ray_internals.longest_path(Path(str(home) + tail)) - 1
    for name, fits in (("y" * room, True), ("y" * (room + 1), False)):
        monkeypatch.setenv("RAY_TMPDIR", str(home / name))
        if fits:
            with private_folder() as folder:
                session = folder / f"session_2026-12-01_12-00-00_123456_{os.getpid()}"
                assert len(os.fsencode(session / "sockets" / "dash_TaskEventsHead")) == ray_session.SOCKET_BYTES
                assert mode_of(folder.parent) == 0o700
        else:
            with pytest.raises(InputError, match=r"RAY_TMPDIR = .*1 bytes too long") as refused, private_folder():
                pass
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null"])
def test_a_given_folder_that_cannot_be_used_is_named(home: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("RAY_TMPDIR", place)
    with pytest.raises(InputError, match=f"RAY_TMPDIR = '{place}': no private folder"), private_folder():
        pass


def test_a_folder_from_which_others_can_move_rays_is_not_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "open").mkdir()
    (home / "open").chmod(0o777)
    monkeypatch.setenv("RAY_TMPDIR", str(home / "open"))
    with pytest.raises(InputError, match="another user can rename"), private_folder():
        pass
    (home / "open").chmod(0o1777)  # as /tmp: the owner of a file alone can rename it
    with private_folder() as folder:
        assert folder.is_dir()


@needs_root
def test_a_folder_of_another_user_or_a_link_is_not_taken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = home / f"sweeps-ray-{os.geteuid()}"
    monkeypatch.setenv("RAY_TMPDIR", str(home))
    place.mkdir()
    os.chown(place, STRANGER, STRANGER)
    with pytest.raises(InputError, match=f"belongs to another user \\({STRANGER}\\)"), private_folder():
        pass
    place.rmdir()
    (home / "target").mkdir()
    place.symlink_to(home / "target")
    with pytest.raises(InputError, match="is a link"), private_folder():
        pass


def test_old_folders_of_this_machines_ended_runs_go(home: Path) -> None:
    with private_folder() as folder:
        pass
    ended = 4_000_000  # beyond the largest process number
    for index in range(8):
        session = folder / f"session_2026-12-0{index + 1}_00-00-00_000000_{ended}"
        session.mkdir()
        (session / "machine").write_text(platform.node() if index else "another machine")
    running = folder / f"session_2026-12-01_01-00-00_000000_{os.getpid()}"
    running.mkdir()
    (running / "machine").write_text(platform.node())
    with private_folder():
        left = sorted(path.name[8:18] for path in folder.iterdir())
    assert left == ["2026-12-01", "2026-12-01", *(f"2026-12-0{day}" for day in range(4, 9))]


# -- the token ------------------------------------------------------------------------------------------


def test_a_new_token_is_private_and_is_that_of_ray(home: Path) -> None:
    with own_token(home / "private"):
        file = home / ".ray" / "auth_token"
        assert mode_of(file) == 0o600
        assert mode_of(file.parent) == 0o700
        assert len(file.read_text()) == 64
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert token_of_ray() == file.read_text()
    content = file.read_text()
    with own_token(home / "private"):
        assert file.read_text() == content


def token_of_ray() -> str:
    """The token that Ray would send."""
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    return next(iter(get_auth_headers_if_auth_enabled({}).values())).removeprefix("Bearer ")


def test_a_token_that_others_can_read_is_mended_with_a_line(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = home / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("a" * 64)
    file.chmod(0o644)
    with own_token(home):
        assert mode_of(file) == 0o600
        assert file.read_text() == "a" * 64
    assert [record for record in caplog.messages if "could be read by other users" in record]


@needs_root
def test_a_token_of_another_user_is_refused_in_one_line(home: Path) -> None:
    file = home / ".ray" / "auth_token"
    file.parent.mkdir()
    for make in (lambda: file.write_text("a" * 64), lambda: file.symlink_to("/nothing/there")):
        make()
        os.chown(file, STRANGER, STRANGER, follow_symlinks=False)
        with pytest.raises(InputError, match=f"belongs to another user \\({STRANGER}\\)") as refused, own_token(home):
            pass
        assert "\n" not in str(refused.value)
        file.unlink()


def test_an_empty_token_is_replaced(home: Path) -> None:
    file = home / ".ray" / "auth_token"
    file.parent.mkdir()
    file.touch(mode=0o600)
    with own_token(home):
        assert len(file.read_text()) == 64


def test_where_home_cannot_be_written_the_token_lies_with_rays_files(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/dev/null")
    with own_token(home):
        file = home / "auth_token"
        assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(file)
        assert mode_of(file) == 0o600
        assert token_of_ray() == file.read_text()
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_a_given_token_is_used_and_a_missing_one_named(home: Path) -> None:
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(home / "mine")
    assert token_file() == home / "mine"
    with pytest.raises(InputError, match=r"RAY_AUTH_TOKEN_PATH = .*no token in this file"), own_token(home):
        pass
    (home / "mine").write_text("b" * 64)
    with own_token(home):
        assert mode_of(home / "mine") == 0o600
    os.environ["RAY_AUTH_TOKEN"] = "c" * 64
    assert token_file() is None
    with own_token(home):
        assert token_of_ray() == "c" * 64
    assert not (home / ".ray").exists()


def test_who_turns_tokens_off_gets_none(home: Path) -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with own_token(home):
        assert not (home / ".ray").exists()
