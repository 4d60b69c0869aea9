"""Local folders and object stores behind one address."""

from __future__ import annotations

import os
import posixpath
from typing import Any

import fsspec

from sweeps.errors import InputError
from sweeps.io.guards.regular_files import RegularFiles
from sweeps.io.guards.secrets import refuse_secrets, texts_within
from sweeps.io.guards.urls import check_url, refuse_link_local
from sweeps.io.pointers import refuse_dangling, refuse_pointer

STORE_VARIABLES = {"endpoint": ("AWS_ENDPOINT_URL_S3",), "region": ("AWS_DEFAULT_REGION", "AWS_REGION")}
"""What tells one S3 from another, and the variables that S3's clients read it from."""

ATTEMPTS = 3
"""How often a request to S3 is made before its error is that of who retries."""


def open_filesystem(url: str, retried: bool = False) -> tuple[Any, str]:
    """Open the fsspec file system of a path or URL and the path inside it; listings are never cached.

    InputError for what `refuse_secrets` and `check_url` refuse. Of local files only regular ones are read. Who is
    `retried` by its caller asks an S3 three times in some seconds, instead of five times five in forty (unless fsspec's
    configuration says how often).
    """
    refuse_secrets(url)
    check_url(url)
    if "://" not in url or url.startswith(("file://", "local://")):
        local = RegularFiles()
        return local, str(local._strip_protocol(url))
    options = store_options(url)
    few = retried and _is_s3(url) and "retries" not in options["config_kwargs"]
    if few:  # by its options a file system of its own, which is not shared with who is not retried
        options["config_kwargs"]["retries"] = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    try:
        filesystem, path = fsspec.url_to_fs(url, **options)
    except (ValueError, ImportError) as error:
        raise InputError(f"cannot be opened: {error}", file=url) from error
    if few:
        filesystem.retries = 1
    return filesystem, path


def store_options(url: str) -> dict[str, Any]:
    """Give the options with which fsspec opens a URL: listings are never cached, no S3 redirects its clients."""
    options: dict[str, Any] = {"use_listings_cache": False} if "://" in url else {}
    if _is_s3(url):
        from sweeps.io.guards.store_sessions import UnredirectedSession

        given = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {**given, "http_session_cls": UnredirectedSession}
    return options


def _is_s3(url: str) -> bool:
    return url.startswith(("s3://", "s3a://"))


def join(base: str, path: str) -> str:
    """Give `path` as seen from the folder `base`; an absolute path or a URL stays as it is, `~` is the home folder."""
    check_url(path)
    path = expanded(path)
    if "://" in path or path.startswith("/"):
        return path
    return posixpath.join(base, path) if base else path


def expanded(path: str) -> str:
    """Give a path with the home folder in place of `~`, as a shell does; a URL stays as it is."""
    return os.path.expanduser(path) if path.startswith("~") else path


def read_bytes(url: str) -> bytes:
    """Read the content of one file; an InputError where it is missing, or a pointer of git-annex or Git LFS."""
    filesystem, path = open_filesystem(url)
    try:
        content: bytes = filesystem.cat_file(path)
    except IsADirectoryError as error:
        raise InputError("is a folder, where a file must be", file=url) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        refuse_dangling(path, url)
        raise InputError("no such file", file=url) from error
    refuse_pointer(content, url)
    return content


def uses_s3(value: Any) -> bool:
    """Tell whether a text in nested mappings and lists is an address on S3."""
    return any(_is_s3(text) for _, text in texts_within(value))


def store_settings() -> dict[str, str]:
    """Give endpoint and region of S3 as this process's environment and configuration files have them, else ''.

    Raises InputError where these cannot be read, or where the endpoint holds credentials.
    """
    from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
    from botocore.session import Session  # type: ignore[import-untyped]

    session = Session()
    try:
        configured = _configured_endpoint(session)
        region = session.get_config_variable("region")
    except BotoCoreError as error:
        raise InputError(f"cannot be used: {error}", key="AWS configuration") from None
    given = fsspec.config.conf.get("s3", {})  # which comes before botocore's own
    client = given.get("client_kwargs", {})
    endpoint = str(given.get("endpoint_url") or client.get("endpoint_url") or configured)
    refuse_secrets(endpoint, key="AWS_ENDPOINT_URL")
    refuse_link_local(endpoint, "AWS_ENDPOINT_URL")
    region = client.get("region_name") or region or os.environ.get("AWS_REGION", "")
    return {"endpoint": endpoint.rstrip("/"), "region": str(region)}


def _configured_endpoint(session: Any) -> str:
    """The endpoint that botocore takes for S3: of the environment, else of the profile."""
    profile = session.get_scoped_config()
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return ""
    services = session.full_config.get("services", {}).get(profile.get("services", ""), {})
    stated = (
        os.environ.get("AWS_ENDPOINT_URL_S3"),
        os.environ.get("AWS_ENDPOINT_URL"),
        services.get("s3", {}).get("endpoint_url"),
        profile.get("endpoint_url"),
    )
    return next((endpoint for endpoint in stated if endpoint), "")
