"""Secrets do not leave this process in a text, nor come in by a URL."""

from __future__ import annotations

import inspect
import re
import string
from typing import Any
from urllib.parse import quote

import botocore.configprovider  # type: ignore[import-untyped]
import botocore.credentials  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import InputError
from sweeps.io.filesystem import open_filesystem
from sweeps.io.guards.secrets import (
    STORE_SETTINGS,
    is_credential,
    is_secret,
    raising_redacted,
    redacted,
    refuse_secrets,
    refuse_secrets_within,
)

KEYS = st.text(string.ascii_letters + string.digits + "+/", min_size=12, max_size=40).filter(
    lambda key: any(letter.isalpha() for letter in key)
)
WORDS = st.text(string.ascii_lowercase + " :,.=", max_size=30)


@given(secret=KEYS, before=WORDS, after=WORDS)
@settings(max_examples=50)
def test_a_credential_of_the_environment_is_in_no_text(secret: str, before: str, after: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        for form in (secret, quote(secret, safe="")):
            text = redacted(f"{before}{form}{after}")
            assert form not in text
            assert redacted(text) == text


SHAPED = [
    "https://{}@host/rows",
    "https://lab:{}@host/rows",
    "s3://AKIAIOSFODNN7EXAMPLE:{}@lab/rows",
    "https://host/rows?partNumber=1&X-Amz-Signature={}&x=1",
    "https://host/rows?X-Amz-Security-Token={}",
    "https://account.blob.core.windows.net/data?sv=2024&sig={}",
    "Authorization: AWS4-HMAC-SHA256 Credential={}, SignedHeaders=host, Signature=0f",
    "Authorization: Bearer {}",
    "aws_secret_access_key = {}",
    "{{'SecretAccessKey': '{}', 'Expiration': 1}}",
    "<AWSAccessKeyId>{}</AWSAccessKeyId>",
]


@pytest.mark.parametrize("shape", SHAPED)
@given(secret=KEYS)
@settings(max_examples=30)
def test_what_has_the_shape_of_a_secret_is_in_no_text(shape: str, secret: str) -> None:
    secret = secret if shape.startswith("s3") else secret.replace("/", "x")
    text = redacted(f"PUT {shape.format(secret)} was refused")
    assert secret not in text
    assert text.endswith(" was refused")
    assert redacted(text) == text


PLAIN = [
    "PermissionError: s3://lab/rows/parts/cells/0a.parquet: Access Denied",
    "KeyError: 'token' (at reader.py:12)",
    "http://127.0.0.1:9000/bucket/a@b does not answer",
    "AWS_SECRET_ACCESS_KEY: is not set",
    "space.readout.ridge.key = 'a': unknown key; allowed: pool, alpha",
    "https://host/data?list-type=2&prefix=a%2Fb",
    "http://[::1]:9000/bucket: name@lab",
    "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/lab/rows@2",
]


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_stay_as_they_are(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TOKEN", "rows")  # too short to be a secret, and a word
    monkeypatch.setenv("LAB_CREDENTIALS", "/etc/passwd")  # where a secret lies is none
    assert redacted(f"{text} /etc/passwd") == f"{text} /etc/passwd"


@given(st.text("ab:/@?&=.%, 0A*", max_size=60))
@settings(max_examples=60)
def test_a_text_is_redacted_once(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


def test_a_long_text_takes_no_time() -> None:
    for text in ("?" + "access" * 30_000, "://" * 30_000, "://a:" + "b" * 100_000, "sig" * 50_000 + "=", "a;" * 50_000):
        assert redacted(text) == text


def test_every_variable_by_which_botocore_tells_who_one_is_counts_as_a_credential() -> None:
    names = {
        name
        for module in (botocore.credentials, botocore.configprovider)
        for name in re.findall(r"['\"]((?:AWS|BOTO)_[A-Z0-9_]+)['\"]", inspect.getsource(module))
    }
    assert {"AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN"} < names
    assert {name for name in names if not is_credential(name)} <= {*STORE_SETTINGS}


def test_secret_values_are_told_from_where_they_lie() -> None:
    secret = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "AZURE_STORAGE_KEY")
    assert all(is_secret(name) and is_credential(name) for name in secret)
    assert not any(is_secret(name) for name in ("AWS_PROFILE", "AWS_REGION", "PWD", "TOKENIZERS_PARALLELISM", "HOME"))


URLS = [
    "s3://AKIAIOSFODNN7EXAMPLE:planted/Secret+1@lab/rows",
    "s3://plantedSecret@lab/rows",
    "http://lab:plantedSecret@127.0.0.1:9000",
    "https://host/data?token=plantedSecret",
    "https://host/data?a=1&X-Amz-Signature=plantedSecret",
    "abfs://data@account.dfs.core.windows.net/rows?sig=plantedSecret",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_with_credentials_is_refused_without_them(url: str) -> None:
    for refuse in (refuse_secrets, open_filesystem):
        with pytest.raises(InputError, match="holds credentials") as caught:
            refuse(url)
        assert "lanted" not in str(caught.value) + repr(caught.value)
    with pytest.raises(InputError, match=r"a\.yaml: recordings\.0\.path = .*holds credentials"):
        refuse_secrets_within({"recordings": [{"path": url}]}, "a.yaml")


@pytest.mark.parametrize(
    "url",
    [
        "s3://lab/rows",
        "s3://lab/a:b@c",
        "abfs://data@account.dfs.core.windows.net/rows",
        "https://host:443/a@b?v=2",
        "sftp://lab@host/rows",
        "/data/a:b@c?token=d",
        "http://[::1]:9000/a@b",
        "file:///data/lab@home",
    ],
)
def test_other_urls_are_not_refused(url: str) -> None:
    refuse_secrets(url)


def test_an_error_that_holds_a_secret_is_raised_without_it_and_its_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "plantedSecret1")

    @raising_redacted
    def fail(text: str, cause: str) -> Any:
        try:
            raise ValueError(cause)
        except ValueError as error:
            raise KeyError(text) from error

    with pytest.raises(RuntimeError, match=r"KeyError: 'PUT \*\*\*'") as caught:
        fail("PUT plantedSecret1", "refused")
    assert caught.value.__cause__ is caught.value.__context__ is None
    with pytest.raises(RuntimeError, match="KeyError: 'PUT'") as caught:
        fail("PUT", "plantedSecret1 was refused")
    assert caught.value.__cause__ is caught.value.__context__ is None
    with pytest.raises(KeyError, match="PUT"):
        fail("PUT", "refused")
