"""What keys are called here that people call otherwise: the key that was meant is named beside an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from sweeps.errors import InputError

READOUT = "space.readout: [{gaussian: {%s: ...}}]"
CORE = "space.backbone: [{stacked2d: {%s: ...}}]"

MEANT = {
    "compute.gpus_per_pack": "gpu gpus num_gpus n_gpus ngpus gpus_per_trial gpu_per_trial device devices"
    " cuda accelerator",
    "compute.cpus_per_pack": "cpu cpus num_cpus n_cpus cores num_cores cpus_per_trial threads n_jobs",
    "compute.workers": "worker workers num_workers n_workers max_workers max_concurrent max_concurrent_trials"
    " concurrency parallel processes",
    "compute.cells_per_pack": "pack_size cells per_pack chunk_size",
    "compute.max_failures": "retry retries max_retries failures",
    "compute.limit_minutes": "timeout time_limit max_time minutes walltime",
    "compute.storage_patience_minutes": "storage_timeout storage_patience patience_minutes",
    "compute.cache": "cache cache_dir cache_folder cache_path tmp tmpdir",
    "compute": "resources resource cluster hardware ray",
    "recordings": "data dataset datasets recording session sessions subjects animals mice",
    "recordings.0.path": "root dir directory folder file filename data_path data_dir data_root location url uri",
    "recordings.0.format": "type kind layout reader",
    "recordings.0.image": "images picture pictures resolution image_size img_size size crop resize",
    "probes": "probe stimuli stimulus",
    "space.backbone": "model models network networks net backbones backbone core cores encoder encoders architecture"
    " architectures arch feature_extractor",
    "space.depth": "layer layers depths block blocks stage stages",
    "space.readout": "readouts readout head heads decoder regressor regression",
    "space.seed": "seeds random_seed random_state seed",
    "space": "params parameters hyperparameters hparams search_space grid config configs sweep param_space",
    "scores": "metric metrics score measure measures evaluation eval benchmarks",
    "search.method": "sampler algorithm algo search_alg optimizer_method strategy",
    "search.trials": "n_trials num_trials trials max_trials num_samples n_samples samples budget n_iter iterations",
    "search.objectives": "objective metric_name optimize maximise maximize goal target",
    "search.halving": "scheduler asha pruner pruning halving early_stopping successive_halving",
    "search": "tune tuner optuna hpo",
    "split": "splits fold folds cv cross_validation train train_split train_fraction train_size partition",
    "split.select": "val valid validation dev val_fraction val_size validation_split validation_fraction",
    "split.report": "test test_split test_size test_fraction holdout held_out",
    "storage": "output out output_dir outdir out_dir results results_dir result save_dir savedir save_path s3 bucket"
    " logdir log_dir local_dir storage_path destination",
    "name": "title experiment experiment_name run_name sweep_name project id",
    READOUT % "learning_rate": "lr learning_rate learningrate rate eta step_size",
    READOUT % "epochs": "epoch epochs n_epochs num_epochs max_epochs max_iter steps",
    READOUT % "patience": "early_stop early_stopping_patience",
    READOUT % "loss": "loss losses criterion likelihood_loss loss_fn",
    READOUT % "l1": "lasso sparsity l1_weight reg regularization regularisation gamma_readout",
    READOUT % "pool": "pooling avg_pool",
    "space.readout: [{ridge: {alpha: ...}}]": "alpha alphas lambda l2 ridge_alpha",
    CORE % "batch": "batch batch_size batchsize bs",
    CORE % "weight_decay": "wd decay weight_decay",
    CORE % "channels": "hidden_channels n_channels features filters width",
}
"""Place in an experiment file -> words by which it is asked for."""

PLACES: dict[str, list[str]] = {
    word: [place for place, names in MEANT.items() if word in names.split()]
    for word in " ".join(MEANT.values()).split()
}
"""Word -> the places that it may stand for."""


def unknown_key(key: str, allowed: Iterable[str], file: str | None = None) -> InputError:
    """Return the error for an unknown key: what is allowed beside it, and which key it stands for elsewhere.

    A key that is nearly one of the allowed ones is a slip of the pen, and answered with that.

    >>> print(unknown_key("compute.gpus", ["gpus_per_pack", "workers"]))
    compute.gpus: unknown key; allowed: gpus_per_pack, workers; did you mean 'compute.gpus_per_pack'?
    """
    names = [str(name) for name in allowed]
    word = key.rsplit(".", 1)[-1]
    meant = _meant(word, key, names)
    if meant is None or difflib.get_close_matches(word, names, n=1, cutoff=0.8):
        return InputError("unknown key", file=file, key=key, allowed=names)
    return InputError(f"unknown key; allowed: {', '.join(names)}; did you mean {meant!r}?", file=file, key=key)


def _meant(word: str, key: str, allowed: list[str]) -> str | None:
    """Return the place that a word stands for: one of the same section before others."""
    plain = word.lower().replace("-", "_")
    places = PLACES.get(plain, [])
    section = key.rpartition(".")[0]
    beside = [name for name in allowed for place in places if place.rsplit(".", 1)[-1] == name or f"{{{name}:" in place]
    if beside:
        return f"{section}.{beside[0]}" if section else beside[0]
    return next((place for place in places if place != key), None)
