"""Two real users of one machine: what the second can read, write, rename, run or forge of the first's. Nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from two_users import HOMES, SHARED, TwoUsers, missing

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(missing()), reason=missing() or "all is here")]

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"

OWN_RAY = """
import json, os, sys
os.umask(0o022)
from sweeps.execution.connection import ray_connection, ray_internals
with ray_connection.connected(None, 1) as dashboard:
    import ray
    ray.get(ray.remote(lambda: 1).remote())
    address = ray.get_runtime_context().gcs_address
    print(json.dumps([dashboard, address, str(ray_internals.session_folder())]), flush=True)
    sys.stdin.read()
"""

ATTACKS = """
import json, os, sys
session, home = sys.argv[1:]
token = home + "/.ray/auth_token"
answers = {}

def attempt(name, action):
    try:
        action()
        answers[name] = "done"
    except OSError as error:
        answers[name] = type(error).__name__

attempt("read the token", lambda: open(token).read())
attempt("replace the token", lambda: os.rename(token, token + ".old"))
attempt("list the session", lambda: os.listdir(session))
attempt("write into the session", lambda: open(session + "/mine", "w"))
attempt("write into its logs", lambda: open(session + "/logs/mine", "w"))
attempt("read its logs", lambda: open(session + "/logs/raylet.out").read())
attempt("rename its sockets", lambda: os.rename(session + "/sockets", session + "/taken"))
attempt("rename the session", lambda: os.rename(session, session + "x"))
attempt("remove its socket", lambda: os.unlink(session + "/sockets/raylet"))
open_to_all, leaked = [], []
for top in (home, "/tmp", "/dev/shm", "/var/tmp"):
    for folder, folders, files in os.walk(top):
        for name in [*files, *folders]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if os.path.islink(path) or status.st_uid != os.stat(home).st_uid:
                continue
            if os.access(path, os.W_OK):
                open_to_all.append(path)
            if os.path.isfile(path) and os.access(path, os.R_OK) and b"SECRET" in open(path, "rb").read():
                leaked.append(path)
answers["writable"], answers["leaked"] = open_to_all, leaked
print(json.dumps(answers))
""".replace("SECRET", SECRET)

JOB = """
import json, sys, urllib.error, urllib.request
dashboard, token = sys.argv[1:]
headers = {"Content-Type": "application/json", **({"Authorization": "Bearer " + token} if token else {})}
body = json.dumps({"entrypoint": "touch /srv/ran"}).encode()
try:
    print(urllib.request.urlopen(urllib.request.Request("http://" + dashboard + "/api/jobs/", body, headers)).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""

JOIN = """
import sys
from sweeps.errors import InputError
from sweeps.execution.connection import ray_connection
try:
    with ray_connection.connected(sys.argv[1]):
        print("joined")
except InputError as error:
    print(error)
"""


class OwnRay(NamedTuple):
    """A Ray of ada's that is up."""

    dashboard: str
    address: str
    session: str


@pytest.fixture(scope="module")
def machine() -> Iterator[TwoUsers]:
    with TwoUsers() as users:
        yield users


@pytest.fixture(scope="module")
def own_ray(machine: TwoUsers) -> Iterator[OwnRay]:
    """Ada has a token as earlier versions left it, and an AWS secret in her environment."""
    machine.python(
        "ada", "import os; os.makedirs('/home/ada/.ray'); open('/home/ada/.ray/auth_token', 'w').write('5' * 64)"
    )
    process = machine.start("ada", [sys.executable, "-c", OWN_RAY], AWS_SECRET_ACCESS_KEY=SECRET)
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        pytest.fail(process.communicate()[1])
    yield OwnRay(*json.loads(line))
    _, errors = process.communicate("", timeout=120)
    assert "could be read by other users" in errors
    assert not machine.run("root", ["pgrep", "-u", "ada"]).stdout


def test_the_second_user_can_read_write_and_rename_nothing_of_the_first(machine: TwoUsers, own_ray: OwnRay) -> None:
    answers = json.loads(machine.python("bob", ATTACKS, own_ray.session, str(HOMES / "ada")))
    assert answers.pop("writable") == answers.pop("leaked") == []
    assert set(answers.values()) == {"PermissionError"}, answers
    assert len(answers) == 9
    own = json.loads(
        machine.python(
            "ada",
            ATTACKS.split('attempt("replace')[0] + "print(json.dumps(answers))",
            own_ray.session,
            str(HOMES / "ada"),
        )
    )
    assert own == {"read the token": "done"}  # the path is right


def test_the_second_user_can_run_nothing_as_the_first(machine: TwoUsers, own_ray: OwnRay) -> None:
    machine.run("root", ["chmod", "1777", str(SHARED)])
    for token in ("", "6" * 64):
        assert int(machine.python("bob", JOB, own_ray.dashboard, token)) in (401, 403)
    line = machine.python("bob", JOIN, own_ray.address)
    assert "RAY_AUTH_MODE=token" in line
    assert len(line.splitlines()) == 1
    assert int(machine.python("ada", JOB, own_ray.dashboard, "5" * 64)) == 200  # the request is right


# -- a cache that both can write ------------------------------------------------------------------------

FORGE = """
import sys
from pathlib import Path
import numpy as np
from sweeps.io.disk_cache import DiskCache
source, target = (Path(place) for place in sys.argv[1:])
count = 0
for path in source.glob("fits/*.arrays"):
    entry = DiskCache(source / "fits", 1e9).load(path.stem) if source.stat().st_uid else None
    if entry is None:
        raise SystemExit("cannot read " + str(path))
    arrays = {name: array[::-1].copy() if array.dtype.kind == "f" else array for name, array in entry.arrays.items()}
    assert DiskCache(target / "fits", 1e9).save(path.stem, arrays, entry.facts)
    count += 1
print(count)
"""

SCORES = """
import sys, sweeps
rows = sweeps.load(sys.argv[1], "areas").sort_values(["trial_id", "area"])
print(rows[["trial_id", "area", "select.prediction", "score.prediction"]].to_json())
"""


@pytest.fixture(scope="module")
def experiment(machine: TwoUsers) -> Path:
    """A small experiment of ada's in the machine."""
    code = (
        "import sys; sys.path.insert(0, 'tests')\nfrom pathlib import Path\nfrom conftest import write_recording\n"
        "write_recording(Path('/home/ada/data/small'))"
    )
    machine.python("ada", code)
    space = {"backbone": "pixels", "readout": {"ridge": {"pool": 4}}}
    text = yaml.safe_dump(
        {
            "name": "small",
            "recordings": [{"format": "folder", "path": "/home/ada/data/small", "image": {"size": 32}}],
            "probes": {},
            "space": space,
            "scores": ["prediction"],
        }
    )
    machine.python("ada", "import sys; open('/home/ada/small.yaml', 'w').write(sys.argv[1])", text)
    return HOMES / "ada" / "small.yaml"


def sweep(machine: TwoUsers, experiment: Path, storage: str, *more: str) -> subprocess.CompletedProcess[str]:
    line = ["run", str(experiment), "--storage", f"/home/ada/{storage}", "--cpus", "1", *more]
    return machine.run("ada", [sys.executable, "-m", "sweeps", *line])


def scores(machine: TwoUsers, storage: str) -> Any:
    return json.loads(machine.python("ada", SCORES, f"/home/ada/{storage}"))


def test_what_the_second_user_puts_into_a_shared_cache_is_not_believed(machine: TwoUsers, experiment: Path) -> None:
    done = sweep(machine, experiment, "true", "--cache", "/home/ada/true-cache")
    assert done.returncode == 0, done.stderr
    truth = scores(machine, "true")
    machine.run("root", ["mkdir", "-m", "777", "/srv/cache"])
    assert machine.run("root", ["chmod", "755", "/home/ada/true-cache", "/home/ada/true-cache/fits"]).returncode == 0
    machine.run("root", ["cp", "-r", "/home/ada/true-cache", "/home/bob/copy"])
    machine.run("root", ["chown", "-R", "bob:", "/home/bob/copy"])
    assert int(machine.python("bob", FORGE, "/home/bob/copy", "/srv/cache")) > 0

    refused = sweep(machine, experiment, "refused", "--cache", "/srv/cache")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "another user can write" in refused.stderr
    assert "--shared-cache" in refused.stderr

    shared = sweep(machine, experiment, "shared", "--cache", "/srv/cache", "--shared-cache")
    assert shared.returncode == 0, shared.stderr
    assert scores(machine, "shared") == truth
    listing = machine.run("root", ["stat", "-c", "%a %U", "/srv/cache/user-61001", "/srv/cache/fits"]).stdout
    assert listing.split() == ["700", "ada", "700", "bob"]

    machine.run("root", ["cp", "-r", "/srv/cache/fits", "/home/ada/forged-fits"])  # were they hers, they would count
    machine.run("root", ["sh", "-c", "mkdir -m 700 /home/ada/hers; mv /home/ada/forged-fits /home/ada/hers/fits"])
    machine.run("root", ["chown", "-R", "ada:", "/home/ada/hers"])
    assert sweep(machine, experiment, "hers", "--cache", "/home/ada/hers").returncode == 0
    assert scores(machine, "hers") != truth


def test_a_part_of_the_shared_cache_that_the_second_user_has_made_is_refused(
    machine: TwoUsers, experiment: Path
) -> None:
    machine.run("root", ["mkdir", "-m", "1777", "/srv/other"])
    machine.python("bob", "import os; os.mkdir('/srv/other/user-61001'); os.chmod('/srv/other/user-61001', 0o777)")
    refused = sweep(machine, experiment, "taken", "--cache", "/srv/other", "--shared-cache")
    assert refused.returncode == 2
    assert "not private" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


# -- loopback -------------------------------------------------------------------------------------------

EVERYWHERE = """
from contextlib import nullcontext
from sweeps.errors import InputError
from sweeps.execution.connection import ray_connection, ray_internals
ray_internals.on_loopback = nullcontext  # as if Ray no longer knew the name
try:
    with ray_connection.connected(None, 1):
        print("runs")
except InputError as error:
    print(error)
print(len(ray_internals.processes()))
"""


def test_a_ray_that_listens_beyond_loopback_is_shut_down(machine: TwoUsers) -> None:
    """In a network of its own, with an address that others would reach."""
    for command in (
        "link add far type veth peer name near",
        "address add 10.78.0.1/24 dev far",
        "link set far up",
        "link set near up",
        "route add default dev far",
    ):
        assert machine.run("root", ["ip", *command.split()]).returncode == 0
    line, left = machine.python("ada", EVERYWHERE).splitlines()
    assert "Ray was to listen on 127.0.0.1 alone" in line
    assert left == "0"
