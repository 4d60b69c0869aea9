"""Ray's dashboard while a sweep runs: what its pages show in a browser, and the JSON behind them."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import yaml
from browser import opened, program
from processes import command, started, wait_for

pytestmark = pytest.mark.browser


@dataclass(frozen=True)
class Board:
    """The dashboard of a running sweep, and its token."""

    address: str
    token: str

    def ask(self, path: str, token: bool = True, method: str = "GET") -> Any:
        """The answer to a request, which fails without the token."""
        headers = {"Authorization": f"Bearer {self.token}"} if token else {}
        return urllib.request.urlopen(urllib.request.Request(self.address + path, None, headers, method=method))

    def json(self, path: str) -> Any:
        """What a page of the dashboard reads."""
        with self.ask(path) as answer:
            return json.load(answer)

    def cookie(self) -> dict[str, str]:
        """What the dashboard gives a browser for the token."""
        with self.ask("/api/authenticate", method="POST") as answer:
            ((name, held),) = SimpleCookie(answer.headers["Set-Cookie"]).items()
        return {"name": name, "value": held.value, "url": self.address}


@pytest.fixture
def board(experiment: dict[str, Any], tmp_path: Path) -> Iterator[Board]:
    """A sweep of some minutes under a Ray of its own, with a home of its own, since a local Ray keeps a token there."""
    program()
    readout = {"gaussian": {"loss": "gaussian", "epochs": 200, "patience": 200, "pool": 8, "l1": [0.01, 0.1]}}
    space = {"backbone": "efficientnet-lite0", "depth": {"shared": "all"}, "readout": readout, "seed": [*range(8)]}
    held = {**experiment, "name": "macaque-depth", "space": space, "scores": ["prediction"]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**held, "compute": {"cells_per_pack": 4}}))
    places = ["--storage", str(tmp_path / "results"), "--cache", str(tmp_path / "cache"), "--cpus", "2"]
    home, log = tmp_path / "home", tmp_path / "log"
    home.mkdir()
    with started(command("run", str(tmp_path / "sweep.yaml"), *places), log, home=home) as driver:
        parts = tmp_path / "results" / "parts" / "cells"
        wait_for(lambda: [*parts.glob("*")] or driver.poll() is not None, 300, "the first rows are written")
        text = log.read_text()
        address = re.search(r"dashboard: (http://127\.0\.0\.1:\d+)$", text, re.MULTILINE)
        assert address is not None, text
        token = (home / ".ray" / "auth_token").read_text().strip()
        assert "get-auth-token" in text
        assert token not in text
        yield Board(address[1], token)


def check_actors(board: Board) -> None:
    """Workers show as packs of their sweep, and tell in their log what they do."""
    rows = board.json("/api/v0/actors?detail=1")["data"]["result"]["result"]
    packs = [row for row in rows if row["state"] == "ALIVE"]
    assert 1 <= len(packs) <= 2
    assert {(row["class_name"], row["repr_name"]) for row in packs} == {("SweepPack", "SweepPack(macaque-depth)")}
    shown = board.json("/logical/actors")["data"]["actors"]
    assert {shown[row["actor_id"]]["reprName"] for row in packs} == {"SweepPack(macaque-depth)"}
    with board.ask(f"/api/v0/logs/file?actor_id={packs[0]['actor_id']}&suffix=out&lines=-1") as answer:
        assert "efficientnet-lite0 -> small: 4 cells" in answer.read().decode()


def check_jobs(board: Board, storage: Path) -> None:
    """The driver shows as one running job, with its command line and what it runs."""
    (job,) = board.json("/api/jobs/")
    assert job["status"] == "RUNNING"
    assert " sweeps run " in job["entrypoint"]
    assert job["metadata"] == {"sweep": "macaque-depth", "storage": str(storage)}


def test_pages_and_their_json_tell_which_sweep_runs(board: Board, tmp_path: Path) -> None:
    check_actors(board)
    check_jobs(board, tmp_path / "results")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        board.ask("/api/v0/actors", token=False)

    async def look() -> None:
        async with opened(tmp_path / "profile") as page:
            await page.open(f"{board.address}/#/actors", until="Authentication Token Required")
            await page.picture(tmp_path / "token.png")
            await page.call("Network.setCookie", **board.cookie())
            for name, until in (("actors", "SweepPack(macaque-depth)"), ("jobs", "sweeps run")):
                shown = await page.open(f"{board.address}/#/{name}", until)
                await page.picture(tmp_path / f"{name}.png")
                assert board.token not in shown
                assert (tmp_path / f"{name}.png").stat().st_size > 10_000

    asyncio.run(look())
