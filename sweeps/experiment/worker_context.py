"""What all packs of a sweep share, as plain data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from sweeps.errors import Refusal


@dataclass(frozen=True)
class WorkerContext:
    """The experiment as JSON has it, and what the driver has derived; no credentials.

    `base` is what recording paths are relative to. `fingerprints` are the driver's, which every node must see too.
    `score_keys` identify every score by name. `depths` are the blocks of each backbone that the sweep may read:
    features of all of them are computed in one pass. `digest` is that of the code. `rungs` is the actor that successive
    halving asks. `shared` is, by name, what a recording's split must know of groups that others share: the strata and
    {group: place} of `SharedGroups`. `plugins` come from outside this project, and may lie in `import_paths`; see
    `models.registry`. `splits` are the splits of the recordings as rows hold them, by name. `shared_cache`: other users
    may write into `cache`, see `sweeps.io.guards.private_folder`. `store` are endpoint and region of S3, where the
    sweep uses it; see `sweeps.io.filesystem.store_settings`. `proof` is the object in the storage that nodes must see
    (empty where nothing has to be proven), `proven` are ids of the nodes that do.
    """

    experiment: dict[str, Any]
    base: str
    storage: str
    cache: str
    fingerprints: dict[str, str]
    score_keys: dict[str, str]
    depths: dict[str, list[int]]
    digest: str
    commit: str = ""
    rungs: str = ""
    plugins: list[str] = field(default_factory=list)
    import_paths: list[str] = field(default_factory=list)
    shared: dict[str, list[Any]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    shared_cache: bool = False
    store: dict[str, str] = field(default_factory=dict)
    proof: str = ""
    proven: list[str] = field(default_factory=list)

    def check_contents(self, name: str, fingerprint: str) -> None:
        """Refuse a recording whose contents are not those that the driver has read. Raises Refusal."""
        expected = self.fingerprints[name]
        if fingerprint != expected:
            raise Refusal(
                f"this node sees other contents ({fingerprint}) than the driver ({expected}): "
                "put the data where every node sees the same, for example on s3://",
                key="recordings",
                value=name,
            )

    def as_config(self) -> str:
        """Write a text for Ray: one that is never copied, whatever the number of packs."""
        return json.dumps(asdict(self))

    @classmethod
    def from_config(cls, config: str) -> WorkerContext:
        """Read what `as_config` has written."""
        return cls(**json.loads(config))

    @property
    def sweep(self) -> str:
        """The experiment's name."""
        return str(self.experiment["name"])

    @property
    def recordings(self) -> list[dict[str, Any]]:
        """Recordings as the experiment file has them."""
        return list(self.experiment["recordings"])

    @property
    def probes(self) -> dict[str, Any]:
        """Probes as the experiment file has them, by kind; without those that are left out."""
        return {kind: value for kind, value in self.experiment["probes"].items() if value is not None}

    @property
    def split(self) -> dict[str, Any]:
        """Settings of the split."""
        return dict(self.experiment["split"])

    @property
    def scores(self) -> list[str]:
        """Names of the wanted scores."""
        return list(self.experiment["scores"])

    @property
    def halving(self) -> dict[str, Any]:
        """Settings of successive halving; empty without it."""
        return dict(self.experiment["search"]["halving"] or {})

    @property
    def cache_gb(self) -> float:
        """The most that features may take in the cache."""
        return float(self.experiment["compute"]["cache_gb"])

    @property
    def fits_gb(self) -> float:
        """The most that fits may take in the cache."""
        return float(self.experiment["compute"]["fits_gb"])
