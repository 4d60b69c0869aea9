"""Which places a path or URL may name: a list of schemes, each in one spelling. All others are refused in one line."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from urllib.parse import urlsplit

from sweeps.errors import InputError

STORES = {**dict.fromkeys(("s3", "s3a", "gs", "gcs"), "BUCKET"), **dict.fromkeys(("az", "abfs", "abfss"), "CONTAINER")}
"""Schemes of object stores, and what comes first in their URLs."""

LOCAL = ("file", "local")
"""Schemes of local paths."""

ALLOWED = ("a local path", "file:///FOLDER", "s3://BUCKET/FOLDER", "gs://BUCKET/FOLDER", "az://CONTAINER/FOLDER")

ELSEWHERE = {
    "http": "is not read over the web: download it, and give its local path",
    "https": "is not read over the web: download it, and give its local path",
    "hf": "is no place of data: a model of the hub is named owner/name in its backbone's `model`; download other files",
}
"""What to do in place of schemes that people try."""

ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "s3a": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("STORAGE_EMULATOR_HOST",),
    "gcs": ("STORAGE_EMULATOR_HOST",),
}
"""Variables that put a server of one's own in a store's place."""

METADATA_HOSTS = (
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data.ec2.internal",
    "instance-data",
)
METADATA = tuple(map(ipaddress.ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128")))
"""Where clouds hand a machine its credentials: link-local addresses, and those of AWS and Google in IPv6."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/*)")


def check_url(url: str) -> None:
    """Raise InputError for what is neither a local path nor a URL of an allowed scheme in its usual spelling.

    Nothing is opened. Also refused are URLs within URLs (`zip://a::s3://b`), which fsspec would follow, and a store's
    own server at a link-local address.

    >>> check_url("s3://lab/sweeps"), check_url("/data/v1")
    (None, None)
    >>> check_url("s3:/lab/sweeps")
    Traceback (most recent call last):
    sweeps.errors.InputError: s3:/lab/sweeps: must be s3://BUCKET/FOLDER (a local path of that name: ./s3:/lab/sweeps)
    """
    if "::" in url:
        raise InputError("is a URL within another (`::`), which is not followed", file=url, allowed=ALLOWED)
    match = _SCHEME.match(url)
    if match is None:
        return
    scheme, slashes = match[1].lower(), match[2]
    if not slashes and scheme not in (*STORES, *LOCAL, *ELSEWHERE):
        return  # a local path with a colon in it
    if scheme in ELSEWHERE:
        raise InputError(ELSEWHERE[scheme], file=url)
    if scheme not in STORES and scheme not in LOCAL:
        raise InputError(f"unknown scheme {scheme}:// of a URL", file=url, allowed=ALLOWED)
    _check_spelling(url, scheme)
    for variable in ENDPOINTS.get(scheme, ()):
        refuse_link_local(os.environ.get(variable, ""), variable)


def _check_spelling(url: str, scheme: str) -> None:
    """Refuse a URL of an allowed scheme that other programs would read in another way."""
    first, rest = STORES.get(scheme, ""), url[len(scheme) + 3 :]
    form = f"{scheme}://{first}/FOLDER"
    if not url.startswith(f"{scheme}://"):
        local = "" if "//" in url else f" (a local path of that name: ./{url})"
        raise InputError(f"must be {form}{local}", file=url)
    if scheme in LOCAL and not rest.startswith("/"):
        raise InputError(f"must be absolute, {form}; a relative path is written without {scheme}://", file=url)
    if scheme in STORES and not rest.partition("/")[0]:
        raise InputError(f"names no {first.lower()}: must be {form}", file=url)


def check_folder(place: str, key: str, file: str | None = None) -> None:
    """Raise InputError for a URL where a folder of every machine is meant, such as its cache."""
    match = _SCHEME.match(place)
    if "::" in place or (match and (match[2] or match[1].lower() in (*STORES, *LOCAL, *ELSEWHERE))):
        raise InputError("must be a local folder, not a URL", file=file, key=key, value=place)


def refuse_link_local(endpoint: str, key: str) -> None:
    """Raise InputError for a server at an address where a cloud hands out the machine's credentials.

    >>> refuse_link_local("http://169.254.169.254/latest", "AWS_ENDPOINT_URL")
    Traceback (most recent call last):
    sweeps.errors.InputError: AWS_ENDPOINT_URL = 'http://169.254.169.254/latest': is a link-local address, \
which is no object store
    """
    try:
        host = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").hostname or ""
    except ValueError:
        raise InputError("is no URL of a server", key=key, value=endpoint) from None
    address = _address(host)
    named = host.rstrip(".").lower() in METADATA_HOSTS
    if named or (address is not None and any(address in network for network in METADATA)):
        raise InputError("is a link-local address, which is no object store", key=key, value=endpoint)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as, in any spelling that sockets take; None for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host)) if host else None
        except OSError:
            return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
