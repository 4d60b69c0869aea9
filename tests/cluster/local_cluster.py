"""cluster.yaml for machines that are there already: the same file but for provider, login, and what costs minutes."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

import yaml
from machines import Machine

INSTALLED = f"""
set -e
{sys.executable} -m venv --without-pip ~/venv
cd ~/venv/lib/python3*/site-packages
echo {sysconfig.get_path("purelib")} > packages.pth
echo ~/cortex-sweeps > cortex-sweeps.pth
for name in ray sweeps; do
  sed "1c #!$HOME/venv/bin/python" {sysconfig.get_path("scripts")}/$name > ~/venv/bin/$name
  chmod +x ~/venv/bin/$name
done
"""
"""Stands for `python3 -m venv` and `pip install -e`: the launcher's packages, but the project that was uploaded."""

SMALL = " --object-store-memory=200000000"


def local_cluster(head: Machine, workers: list[Machine], bought: Path) -> dict[str, Any]:
    """The cluster file `bought` (on AWS) as one for these machines."""
    config: dict[str, Any] = yaml.safe_load(bought.read_text())
    del config["available_node_types"], config["head_node_type"]
    config["provider"] = {
        "type": "local",
        "head_ip": head.address,
        "worker_ips": [worker.address for worker in workers],
    }
    config["max_workers"] = len(workers)
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(head.key)}
    config["setup_commands"] = [INSTALLED.strip(), *not_installing(config["setup_commands"])]
    config["head_start_ray_commands"] = started(config["head_start_ray_commands"], "")
    config["worker_start_ray_commands"] = started(config["worker_start_ray_commands"], " --num-cpus=1")
    return config


def not_installing(commands: list[str]) -> list[str]:
    """The set-up commands without the two that make the environment."""
    kept = [command for command in commands if "venv ~/venv" not in command and "pip install" not in command]
    assert len(kept) == len(commands) - 2, commands
    return kept


def started(commands: list[str], more: str) -> list[str]:
    """The start commands with an object store that fits one machine, and `more`."""
    return [command + SMALL + more if "ray start" in command else command for command in commands]
