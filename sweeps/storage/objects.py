"""A place for objects: a local folder or an object store, each object written as a whole."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from fsspec.implementations.local import LocalFileSystem

from sweeps.errors import InputError
from sweeps.io.files import create_whole, replacing
from sweeps.io.filesystem import open_filesystem
from sweeps.io.guards.secrets import refuse_secrets
from sweeps.io.guards.urls import check_url
from sweeps.storage.retry import Waiting, is_environment, storage_error, with_retries

PUT_SECONDS = 300.0
CHECK_SECONDS = 20.0
"""Time-outs of a PUT: a server that accepts one and then is silent would otherwise be waited for for ever."""

T = TypeVar("T")


class Objects:
    """Objects by name in a local folder or under an object-store URL.

    Each is written by one PUT (a file of more than 100 MB by a multipart upload, which appears as a whole too; locally
    by write and rename). Listings are never cached. Calls of a store that is away or busy are retried for up to
    `retry_seconds`, after `begin` those that are refused, too.
    """

    def __init__(self, uri: str, retry_seconds: float = 0.0) -> None:
        refuse_secrets(uri)
        check_url(uri)
        self.uri, self.retry_seconds, self.put_seconds = uri.rstrip("/"), retry_seconds, PUT_SECONDS
        self.waiting = Waiting(renew=self.renew_credentials)
        self.fs, root = open_filesystem(self.uri, retried=retry_seconds > 0)
        self.local = isinstance(self.fs, LocalFileSystem)
        self.root = root.rstrip("/")

    def __reduce__(self) -> tuple[type[Self], tuple[str, float]]:
        return type(self), (self.uri, self.retry_seconds)

    def begin(self, say: Callable[[str], None]) -> None:
        """Let everything be waited for that keeps from this place, and tell `say`: for who has written here before.

        A role that is changed, a token that expires and a disk that is full in mid-run may be mended.
        """
        self.waiting = Waiting(is_environment, say, self.renew_credentials)

    def renew_credentials(self) -> None:
        """Read the credentials of an object store anew: those of a file or a role may have been renewed."""
        if not self.local:
            with suppress(Exception):  # the next call says what is wrong
                self.fs.connect(refresh=True)

    def patiently(self, action: Callable[[], T]) -> T:
        """Run an action, with retries; who has waited for all of `retry_seconds` in vain does not wait again."""
        if not self.retry_seconds:
            return action()
        try:
            return with_retries(action, self.uri, self.retry_seconds, self.waiting)
        except Exception as error:
            if self.waiting.waits_for(error):
                self.retry_seconds = 0.0
            raise

    def _call(self, action: str, *arguments: Any, **options: Any) -> Any:
        """Call the file system, with retries."""
        return self.patiently(functools.partial(getattr(self.fs, action), *arguments, **options))

    def put(self, name: str, content: bytes) -> None:
        """Write an object as a whole: it exists with all its bytes, or not at all."""
        if self.local:
            self.patiently(lambda: self._put_file(name, content))
        else:
            self._call("pipe_file", f"{self.root}/{name}", content, timeout=self.put_seconds)

    def _put_file(self, name: str, content: bytes) -> None:
        with self._replaced(name) as file:
            file.write(content)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one; whether it was written. A store without conditional puts overwrites."""
        path = f"{self.root}/{name}"
        try:
            if self.local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                create_whole(Path(path), content)
            else:
                self._call("pipe_file", path, content, mode="create", timeout=PUT_SECONDS)
        except FileExistsError:
            return False
        except OSError as error:
            code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if code in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
                return False
            if code not in ("NotImplemented", "501"):
                raise
            self.put(name, content)
        return True

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; missing ones are ignored. InputError where that is not allowed."""
        paths = [f"{self.root}/{name}" for name in names]
        try:
            for path in paths if self.local else ():
                Path(path).unlink(missing_ok=True)
            if len(paths) == 1 and not self.local:
                with suppress(FileNotFoundError):
                    self._call("rm_file", paths[0])
            elif paths and not self.local:
                self._call("rm", paths)
                folders = {name.rpartition("/")[0] for name in names}
                left = {f"{folder}/{name}" for folder in folders for name in self.names(folder)}
                if left & set(names):  # s3fs does not say so when a bulk removal is refused
                    raise PermissionError
        except PermissionError:
            raise InputError(
                "objects may not be removed here (s3:DeleteObject)", key="storage", value=self.uri
            ) from None

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Give a file to fill: when it is closed, the object holds all that was written; an error leaves none."""
        if self.local:
            with self._replaced(name) as file:
                yield file
        else:
            with tempfile.NamedTemporaryFile() as file:
                yield file
                file.flush()
                self._call("put_file", file.name, f"{self.root}/{name}", timeout=PUT_SECONDS)

    @contextmanager
    def _replaced(self, name: str) -> Iterator[IO[bytes]]:
        target = Path(self.root) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, durable=True) as file:
            yield file

    def get(self, name: str) -> bytes | None:
        """Read an object's bytes in one request; None when there is none.

        Else s3fs asks for the size first, and reads a large object in pieces: of two versions if it is replaced.
        """
        whole = {} if self.local else {"max_concurrency": 1}
        try:
            return bytes(self._call("cat_file", f"{self.root}/{name}", **whole))
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """List the objects in a folder by name, sorted; none where there is no such folder."""
        try:
            paths = self._call("ls", f"{self.root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        names = (str(path).rsplit("/", 1)[-1] for path in paths)
        return sorted(name for name in names if name and not name.startswith("."))

    def check_writable(self) -> None:
        """Raise InputError, saying why, when rows cannot be written here. Leaves nothing behind locally.

        Remotely an empty object is written and removed again; a role that may write but not delete is enough,
        the object then stays.
        """
        if self.local:
            place = next(path for path in (Path(self.root), *Path(self.root).parents) if path.exists())
            if not place.is_dir():
                raise InputError(f"{place} is not a folder", key="storage", value=self.uri)
            try:
                tempfile.TemporaryFile(dir=place).close()
            except OSError as error:
                raise InputError(
                    f"{place} cannot be written: {error.strerror}", key="storage", value=self.uri
                ) from None
            return
        path = f"{self.root}/.write-check"
        try:
            self.fs.pipe_file(path, b"", timeout=CHECK_SECONDS)
            with suppress(PermissionError):
                self.fs.rm_file(path)
        except Exception as error:
            raise storage_error(self.uri, error) from None


def attempt(action: Callable[[], T], uri: str) -> T:
    """Run a storage action; whatever it raises becomes an InputError about the storage place."""
    try:
        return action()
    except InputError:
        raise
    except Exception as error:
        raise storage_error(uri, error) from None
