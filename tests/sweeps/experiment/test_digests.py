"""Digests: of bytes with their bounds, and of every Python file of the three packages."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sweeps.hashing import PACKAGES, code_digest, content_id, digest_bytes


def test_chunks_are_told_apart() -> None:
    digests = {
        digest_bytes(chunks) for chunks in ([b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""], [b"c", b"ab"], [])
    }
    assert len(digests) == 6
    expected = hashlib.sha256(b"\x02" + bytes(7) + b"ab" + b"\x01" + bytes(7) + b"c").hexdigest()
    assert digest_bytes(iter([b"ab", b"c"])) == expected[:20]
    assert digest_bytes([b"ab", b"c"], 7) == expected[:7]
    assert len(content_id({}, 11)) == 11


def test_the_code_is_every_python_file_of_the_packages_by_place_and_content(tmp_path: Path) -> None:
    for name in PACKAGES:
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "x.py").write_text(name)
    digests = [code_digest(tmp_path)]
    (tmp_path / "notes.py").write_text("outside")
    (tmp_path / "sweeps" / "notes.txt").write_text("no code")
    assert code_digest(tmp_path) == digests[0]
    for name in PACKAGES:
        (tmp_path / name / "deep" / "x.py").write_text("changed")
        digests.append(code_digest(tmp_path))
    (tmp_path / "models" / "deep" / "x.py").rename(tmp_path / "models" / "x.py")
    digests.append(code_digest(tmp_path))
    (tmp_path / "metrics" / "new.py").write_text("")
    digests.append(code_digest(tmp_path))
    assert len(set(digests)) == len(digests) == 6
