"""The fingerprint of a recording: another one where a reader's rule changed what was read, else that of its bytes."""

from __future__ import annotations

import pytest

from sweeps.hashing import content_id
from sweeps.recordings.identity import VERSIONS, applied, refined


def test_rules_that_changed_nothing_leave_the_fingerprint() -> None:
    assert refined("print", applied(dict.fromkeys(VERSIONS, False))) == "print"
    assert refined("print", {}) == "print"


@pytest.mark.parametrize("rule", VERSIONS)
def test_a_rule_that_changed_something_makes_another_recording(rule: str) -> None:
    resolved = applied({name: name == rule for name in VERSIONS})
    assert resolved == {rule: VERSIONS[rule]}
    found = refined("print", resolved)
    assert found == content_id(["print", resolved])
    others = {refined("print", {rule: VERSIONS[rule] + 1}), refined("other", resolved), refined("print", {}), found}
    assert len(others) == 4
