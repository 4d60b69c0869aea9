"""What is secret: variables that hold credentials, URLs that bring some, and texts without them."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote, quote_plus

from sweeps.errors import InputError

STORE_SETTINGS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_REGION")
"""Variables that say which object store is meant: no secrets."""

STORES = ("AWS_", "BOTO_", "AZURE_", "GOOGLE_", "GCLOUD_", "MINIO_", "FSSPEC_", "S3_")
"""How variables begin that botocore, adlfs, gcsfs and fsspec read: who one is, by key, file, profile or role."""

WORDS = frozenset({"SECRET", "SECRETS", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "CREDENTIALS", "APIKEY"})
"""Words, between underscores, of variables whose value is secret; so is one that ends in KEY."""

MARK = "***"
"""What stands in place of a secret."""

SHORTEST = 8
"""Characters of the shortest secret: a shorter value would be taken out of words that have nothing to do with it."""

PARAMETER = (
    r"(?:[\w.-]{0,40}(?:signature|token|secret|password|credential|access[-_]?key|api[-_]?key)[\w.-]{0,20}"
    r"|sig|key|auth|pwd|passwd)"
)
VALUE = r"[^&;,\s\"'<>]*[^&;,\s\"'<>:.)]"
USERINFO = (
    r"(?:(?i:(?<=s3://)|(?<=s3a://))(?!arn:)[^/@:?#\s]{0,200}:[^\s\"'<>]{1,400}@"
    r"|(?<=://)(?!arn:|\[)[^/@:?#\s]{0,200}:(?!\d{1,5}[/?#])[^\s\"'<>]{1,400}@"  # what follows host: may be a port
    r"|(?i:(?<=http://)|(?<=https://)|(?<=s3://))[^/@:?#\s]{1,400}@)"
)
QUERY = rf"(?i:(?<=[?&;]){PARAMETER}=){VALUE}"

IN_URL = re.compile(f"{USERINFO}|{QUERY}")

SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(USERINFO), f"{MARK}@"),
    (re.compile(rf"(?i)(?<=[?&;])({PARAMETER}=){VALUE}"), rf"\1{MARK}"),
    (re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}\b"), MARK),
    (re.compile(r"\b(?:hf_|gh[pousr]_)[A-Za-z0-9]{20,}"), MARK),
    (re.compile(r"(?i)\b(bearer\s)[\w.~+/=-]{8,}"), rf"\1{MARK}"),
    (re.compile(r"(?i)\b((?:x-(?:amz|goog)-)?(?:signature|credential|security-token)=)" + VALUE), rf"\1{MARK}"),
    (
        re.compile(
            r"(?i)((?:secret_?access_?key|session_?token|security_?token|access_?key_?id)"
            r"(?:=|>|[\"']?\s?=\s?[\"']?|[\"']\s?:\s?[\"']))[^\s\"'&<,;=]+"
        ),
        rf"\1{MARK}",
    ),
)
"""Texts of a shape that only secrets have, and what takes their place."""


def is_credential(name: str) -> bool:
    """Tell whether an environment variable says who its process is: a key, or where one lies.

    >>> [is_credential(name) for name in ("AWS_PROFILE", "HF_TOKEN", "AWS_REGION", "TOKENIZERS_PARALLELISM")]
    [True, True, False, False]
    """
    return name not in STORE_SETTINGS and (name.startswith(STORES) or is_secret(name))


def is_secret(name: str) -> bool:
    """Tell whether the value of an environment variable itself is secret."""
    words = name.upper().split("_")
    return bool(WORDS & set(words)) or words[-1] == "KEY" or name.upper().endswith("ACCESS_KEY_ID")


def _secrets() -> list[str]:
    """Secrets in this process's environment, as they are and as URLs hold them, the longest first; no paths."""
    named = (value for name, value in os.environ.items() if is_secret(name) and len(value) >= SHORTEST)
    values = [value for value in named if not (os.path.isabs(value) and os.path.exists(value))]
    forms = {form for value in values for form in (value, quote(value, safe=""), quote(value), quote_plus(value))}
    return sorted(forms, key=len, reverse=True)


def redacted(text: str) -> str:
    """Give a text with *** in place of secrets: values of this process's variables, and what has a secret's shape.

    >>> redacted("PUT https://lab:pa55word@host/rows?partNumber=1&X-Amz-Signature=0f3c: 403")
    'PUT https://***@host/rows?partNumber=1&X-Amz-Signature=***: 403'
    """
    for secret in _secrets():
        text = text.replace(secret, MARK)
    for shape, instead in SHAPES:
        text = shape.sub(instead, text)
    return text


def refuse_secrets(url: str, key: str | None = None, file: str | None = None) -> None:
    """Refuse a URL that holds a user, a password or a token: it would be shown, logged and stored. Raises InputError.

    >>> refuse_secrets("s3://someone:wJalr/XUtnFEMI@lab/rows", key="storage")
    Traceback (most recent call last):
    sweeps.errors.InputError: storage = 's3://***@lab/rows': holds credentials, and is written into logs and rows: ...
    """
    if "://" in url and IN_URL.search(url):
        remedy = "leave them out, and give them by a role, ~/.aws/credentials or the environment"
        problem = f"holds credentials, and is written into logs and rows: {remedy}"
        raise InputError(problem, key=key, file=file, value=redacted(url))


def texts_within(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """List every text in nested mappings and lists, with its key as a.b.0.

    >>> list(texts_within({"a": ["x", {"b": "y"}], "n": 1}))
    [('a.0', 'x'), ('a.1.b', 'y')]
    """
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from texts_within(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for place, inner in enumerate(value):
            yield from texts_within(inner, f"{key}.{place}" if key else str(place))


def refuse_secrets_within(value: Any, file: str | None = None) -> None:
    """Refuse URLs with credentials anywhere in nested mappings and lists. Raises InputError that names the key."""
    for key, text in texts_within(value):
        refuse_secrets(text, key or None, file)


P = ParamSpec("P")
T = TypeVar("T")


def raising_redacted(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function raise, in place of an error whose text holds a secret, a RuntimeError with the redacted text.

    Ray writes what a worker raises, with all its causes, into its logs.
    """

    @functools.wraps(function)
    def guarded(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return function(*arguments, **options)
        except Exception as error:
            if all(redacted(str(cause)) == str(cause) for cause in _chain(error)):
                raise
            text = f"{type(error).__name__}: {redacted(str(error))}"
        raise RuntimeError(text)

    return guarded


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and all that a traceback of it tells of."""
    seen: set[int] = set()
    left = [error]
    while left:
        cause = left.pop()
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            left += [cause.__cause__, cause.__context__]
