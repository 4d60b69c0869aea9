"""An own Ray of this user alone: its folder, its token, its start and its end.

Ray gives its folders mode 0777 and its token the mode that the umask leaves. So its files lie in a folder of mode 0700,
which nobody else can enter, whatever the modes inside; the umask stays as it is, since workers write results, too.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

from sweeps import interrupts
from sweeps.errors import InputError
from sweeps.execution.connection import ray_internals
from sweeps.execution.connection.head_watch import HeadGone
from sweeps.io.disk_cache import warn_once
from sweeps.io.files import create_whole
from sweeps.io.guards.private_folder import is_own, make_private, user_name

SOCKET_BYTES = 107 if sys.platform.startswith("linux") else 103
"""The longest path of a socket."""

FOLDER = "sweeps-ray"
SESSIONS = "s"
"""The folder that is private, and the one in it that Ray has: short, since sockets lie below them."""

MACHINE = "machine"
"""A file in the folder of a session: the name of its machine."""

SESSIONS_LEFT = 5
"""How many folders of runs that ended badly are left for their logs."""

READ_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO

ATTEMPTS = 2
"""Ray is started once more where it did not come up: a busy machine is slow."""


@contextmanager
def own_ray(**arguments: Any) -> Iterator[None]:
    """Run an own Ray on 127.0.0.1, started with `arguments`, that ends with the block and leaves no process.

    Its folder goes with it unless the block raises. Raises InputError where there is no private folder, the token is
    another user's, or Ray does not come up.
    """
    before = ray_internals.processes()
    with private_folder() as folder, own_token(folder.parent):
        try:
            _start(folder, arguments)
            session = ray_internals.session_folder()
            _note_machine(session)
            with ended_whole():
                yield
        finally:
            with interrupts.shielded():
                ray_internals.end_processes(ray_internals.processes() - before)
    if session is not None:  # it ended well: nobody will want its logs
        shutil.rmtree(session, ignore_errors=True)


def _start(folder: Path, arguments: Mapping[str, Any]) -> None:
    """Start Ray, once more where it does not come up; InputError in one line where it does not then."""
    for attempt in range(1, ATTEMPTS + 1):
        sockets, before = ray_internals.open_sockets(os.getpid()), ray_internals.processes()
        try:
            with interrupts.kept(), ray_internals.on_loopback(), whole():  # kept around the end of `whole`, too
                ray_internals.start(folder, **arguments)
            started = {process.pid for process in ray_internals.processes() - before}
            ray_internals.check_loopback([os.getpid(), *started], sockets)
            return
        except InputError:
            raise
        except interrupts.Interrupted:
            _shut_down()
            raise
        except Exception as error:
            ray.shutdown()
            ray_internals.end_processes(ray_internals.processes() - before)
            interrupts.check()  # a signal to the whole group ends what Ray was waiting for
            if attempt == ATTEMPTS or isinstance(error, ValueError):
                raise InputError(_not_started(error, folder), key="address", value="local") from None
            logging.getLogger("sweeps").warning("Ray did not come up (%s): trying once more", _first_line(error))


def _not_started(error: Exception, folder: Path) -> str:
    return (
        f"Ray did not start ({_first_line(error)}); its logs are in {folder}/session_latest/logs. "
        "On a slow or busy machine run it again later, with fewer --cpus, or with RAY_gcs_server_port_wait_time_s=120"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# -- interrupts -----------------------------------------------------------------------------------------


@contextmanager
def whole() -> Iterator[None]:
    """Let Ray start or be joined as a whole: an interrupt waits for it, a second one ends what has been started."""
    try:
        with interrupts.postponed(), interrupts.kept():
            yield
    except KeyboardInterrupt:
        _shut_down()
        raise


@contextmanager
def ended_whole() -> Iterator[None]:
    """Leave Ray at the end, whatever interrupts that; where its head is gone it would hang, and is not asked to."""
    gone = False
    try:
        yield
    except HeadGone:
        gone = True
        raise
    finally:
        if not gone:
            _shut_down()


def _shut_down() -> None:
    with interrupts.shielded():
        ray.shutdown()


# -- the folder -----------------------------------------------------------------------------------------


@contextmanager
def private_folder() -> Iterator[Path]:
    """Give the folder for Ray's files, in one of mode 0700 that nobody else can enter. Raises InputError.

    It lies in RAY_TMPDIR if that is set, else below ~/.cache, else in XDG_RUNTIME_DIR, else in a folder of its own in
    the system's temporary folder: the first that is private and short enough for sockets.
    """
    given = os.environ.get("RAY_TMPDIR")
    if given:
        yield _usable(Path(given).expanduser() / f"{FOLDER}-{os.geteuid()}", _refused)
        return
    for place in _places():
        with suppress(OSError, RuntimeError):
            folder = _usable(place.expanduser())
            break
    else:
        folder = _usable(Path(tempfile.gettempdir(), f"{FOLDER}-{os.geteuid()}"), _refused)
    _remove_old(folder)
    yield folder


def _places() -> Iterator[Path]:
    """Folders that may be Ray's, the best first."""
    yield Path("~/.cache", FOLDER)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, FOLDER)
    for folder in dict.fromkeys((tempfile.gettempdir(), "/tmp")):
        yield Path(folder, f"{FOLDER}-{os.geteuid()}")


def _refused(place: Path, problem: str) -> Exception:
    text = f"{problem}: set RAY_TMPDIR to a short path of a folder of yours, such as /tmp"
    return InputError(text, key="RAY_TMPDIR", value=os.environ.get("RAY_TMPDIR") or str(place))


def _usable(place: Path, refusal: Callable[[Path, str], Exception] = lambda _, problem: OSError(problem)) -> Path:
    """The folder for Ray in a place, made if need be; the refusal where the place is not private, or too long."""
    folder = place / SESSIONS
    spare = SOCKET_BYTES - ray_internals.longest_path(folder)
    if spare < 0:
        raise refusal(place, f"the path is {-spare} bytes too long for the sockets of Ray")
    try:
        make_private(place)
        status = place.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise refusal(place, f"{place} belongs to another user ({user_name(status.st_uid)}) or is a link")
        if movable := next((parent for parent in place.resolve().parents if not _stays(parent)), None):
            raise refusal(place, f"another user can rename what lies in {movable}")
        if status.st_mode & READ_BY_OTHERS:
            place.chmod(0o700)
        folder.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise refusal(place, f"no private folder can be made for Ray's files ({error})") from None
    return folder


def _stays(folder: Path) -> bool:
    """Whether nobody else can rename what lies in a folder: the owner alone can in one like /tmp."""
    status = folder.stat()
    return is_own(status) or (status.st_uid in (0, os.geteuid()) and bool(status.st_mode & stat.S_ISVTX))


def _note_machine(session: Path | None) -> None:
    """Write into a session's folder which machine it is of: a home folder may be that of many."""
    if session is not None:
        (session / MACHINE).write_text(platform.node())


def _remove_old(folder: Path) -> None:
    """Remove folders of this machine's runs that ended badly, but for the newest SESSIONS_LEFT."""
    notes = sorted(folder.glob(f"session_2*/{MACHINE}"))
    for path in [note.parent for note in notes if note.read_text() == platform.node()][:-SESSIONS_LEFT]:
        process = path.name.rpartition("_")[2]
        if process.isdigit() and not _runs(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


# -- the token ------------------------------------------------------------------------------------------


@contextmanager
def own_token(folder: Path) -> Iterator[None]:
    """Let an own Ray have a token that this user alone can read: the one that is there, else a new one.

    Where the home folder cannot be written the token lies in `folder` meanwhile, by RAY_AUTH_TOKEN_PATH. Raises
    InputError for a token file of another user.
    """
    if not ray_internals.has_tokens():
        warn_once(f"Ray {ray.__version__} knows no tokens: whoever can log in here can run anything as you meanwhile")
        yield
        return
    with _mode_for_now():
        file = token_file()
        if os.environ["RAY_AUTH_MODE"].lower() != "token":
            yield
        elif file is None or has_token(file) or _has_new_token(file):
            ray_internals.forget_token()
            yield
        else:
            with _token_for_now(folder / "auth_token"):
                yield


@contextmanager
def _mode_for_now() -> Iterator[None]:
    """Let Ray ask for tokens meanwhile, unless the user says otherwise: Ray reads that from the environment."""
    given = "RAY_AUTH_MODE" in os.environ
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        yield
    finally:
        if not given:
            os.environ.pop("RAY_AUTH_MODE", None)


def _has_new_token(file: Path) -> bool:
    """Write a token that this user alone can read; False where that cannot be done, InputError for a given file."""
    if os.environ.get("RAY_AUTH_TOKEN_PATH"):
        raise InputError("there is no token in this file", key="RAY_AUTH_TOKEN_PATH", value=str(file))
    try:
        make_private(file.parent)
        if file.exists() and not file.stat().st_size:
            file.unlink()
        with suppress(FileExistsError):  # another run has just made it
            create_whole(file, secrets.token_hex(32).encode(), mode=0o600)
    except OSError:
        return False
    return True


@contextmanager
def _token_for_now(file: Path) -> Iterator[None]:
    """Let Ray read its token from a file of the run's own."""
    if not has_token(file) and not _has_new_token(file):
        raise InputError("no file for the token of Ray can be written: set HOME", key="HOME", value=str(file))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(file)
    ray_internals.forget_token()
    try:
        yield
    finally:
        del os.environ["RAY_AUTH_TOKEN_PATH"]


def token_file() -> Path | None:
    """Give the file that Ray reads its token from; None where the environment holds the token itself."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(given) if given else Path(os.environ.get("HOME") or os.sep, ".ray", "auth_token")


def has_token(file: Path) -> bool:
    """Whether there is a token in a file, which is made private if need be; InputError where it is another user's."""
    try:
        link = file.lstat()
    except OSError:
        return False
    status = file.stat() if file.exists() else link
    owners = {link.st_uid, status.st_uid} - {0, os.geteuid()}
    if owners or not stat.S_ISREG(status.st_mode):
        stranger = f"belongs to another user ({user_name(min(owners))}), who could run anything as you"
        raise InputError(
            f"the token {stranger if owners else 'is no file'}: remove it, or name another by RAY_AUTH_TOKEN_PATH",
            key="token",
            value=str(file),
        )
    if status.st_uid == os.geteuid() and status.st_mode & READ_BY_OTHERS:
        file.chmod(0o600)
        warn_once(
            f"{file} could be read by other users, who could run anything as you; it has mode 0600 now. "
            "`ray get-auth-token --generate` makes a new one: once, while no Ray of yours runs"
        )
    return status.st_size > 0
