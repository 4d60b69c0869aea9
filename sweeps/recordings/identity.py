"""The identity of a recording where its reader resolves what the bytes of its files leave open."""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.hashing import content_id

VERSIONS = {"labels": 1, "equal-content": 1, "presentations": 1}
"""Rules by name -> version, raised when the rule resolves the same files otherwise: labels without padding, equal
content as one group, rows of one stimulus as its repeats."""


def applied(rules: Mapping[str, bool]) -> dict[str, int]:
    """Return name and version of those rules that changed what was read.

    >>> applied({"labels": False, "presentations": True})
    {'presentations': 1}
    """
    return {rule: VERSIONS[rule] for rule, changed in rules.items() if changed}


def refined(fingerprint: str, resolved: Mapping[str, int]) -> str:
    """Return the fingerprint of a recording, given what its reader resolved: {rule: version of the rule}.

    A fingerprint is of bytes, with no version of the reader. Rules came later (blanks of labels, equal pictures as one
    group, presentations as repeats, orientation and bit depth of pictures): a recording in which one of them changes
    what is read is another recording, so that its cells are fitted again. All others keep their fingerprint.

    >>> refined("ab12", {})
    'ab12'
    """
    return content_id([fingerprint, dict(resolved)]) if resolved else fingerprint
