"""Names from data and errors are shown, not followed: no markup, no control characters, no direction marks."""

from __future__ import annotations

import ast
import io
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import write_recording
from hypothesis import given, settings
from hypothesis import strategies as st
from inline import plan_of, run_inline
from rich.console import Console
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.commands.run import write_experiment
from sweeps.errors import InputError, escaped
from sweeps.experiment.cells import Cell
from sweeps.guidance.gallery import title
from sweeps.guidance.guide import folder_name
from sweeps.guidance.twins import Target
from sweeps.planning.packs import Pack
from sweeps.report.forgotten import show_forgotten
from sweeps.report.plain_text import LONGEST_NAME, PlainTable, name_text, print_line
from sweeps.report.read_progress import ReadProgress
from sweeps.report.score_table import show_chosen
from sweeps.storage.load import load
from sweeps.storage.run_lock import _described

ROOT = Path(__file__).resolve().parents[3]
BIDI = {chr(code) for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}

HOSTILE = ["[/red]", "V1\x1b[2J\x1b]0;title\x07", "=cmd()", "\u202eV4", "<script>", "[bold]V2:smile:", "L" * 10_000]
SHOWN = ["[/red]", r"V1\x1b[2J\x1b]0;title\x07", "=cmd()", r"\u202eV4", "<script>", "[bold]V2:smile:"]

texts = st.text(max_size=20) | st.sampled_from([*HOSTILE[:-1], "a\r\nerror: b", "\ud800", "\x9b31m"])


def is_plain(text: str) -> bool:
    """Whether nothing in a text moves a cursor, turns the direction, or cannot be seen; line breaks apart."""
    return not any(
        sign in BIDI or unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") for sign in text.replace("\n", "")
    )


def printed_by(show: Any, width: int = 160) -> str:
    """What a function prints to a console that knows markup, on a terminal without colours."""
    file = io.StringIO()
    show(Console(file=file, width=width, force_terminal=True, color_system=None))
    return file.getvalue()


# -- the pieces -------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(texts)
def test_what_is_not_printed_is_escaped_and_all_else_stays(text: str) -> None:
    shown = escaped(text)
    assert is_plain(shown)
    assert "\n" not in shown
    assert escaped(shown) == shown
    assert not text.isprintable() or shown == text
    assert escaped(text, lines=True).count("\n") == text.count("\n")


def test_escapes_are_those_of_python() -> None:
    assert escaped("a\x1b[2J\x7f\x9b\u202e\u2066\u200d\u2028\xad\ud800\U000e0041") == (
        r"a\x1b[2J\x7f\x9b\u202e\u2066\u200d\u2028\xad\ud800\U000e0041"
    )
    assert escaped("Gyrus präcentralis 視覚野 V1 🧠 ▏█") == "Gyrus präcentralis 視覚野 V1 🧠 ▏█"


@settings(max_examples=100, deadline=None)
@given(texts, texts, texts)
def test_an_error_is_one_line_without_control_characters(problem: str, key: str, file: str) -> None:
    error = InputError(problem, file=file, key=key, value=problem, allowed=[key, file])
    assert is_plain(str(error))
    assert "\n" not in str(error)


@settings(max_examples=40, deadline=None)
@given(st.lists(texts, min_size=1, max_size=3), texts)
def test_tables_and_lines_show_any_text_as_it_is(names: list[str], heading: str) -> None:
    def show(console: Console) -> None:
        table = PlainTable(heading)
        for name in names:
            table.column(name_text(name), no_wrap=True)
        table.row(*names)
        console.print(table)
        for name in names:
            print_line(console, name, style="red")

    printed = printed_by(show, 800)
    assert is_plain(printed)
    for name in names:
        assert printed.count(escaped(name).strip()) >= 3


def test_a_long_name_is_shortened() -> None:
    assert len(name_text("L" * 10_000)) < LONGEST_NAME
    assert name_text("L" * LONGEST_NAME) == "L" * LONGEST_NAME


def test_names_elsewhere() -> None:
    """In the log of a worker, a lock, metrics, the bar of a terminal, the picture and the folder of a gallery."""
    from sweeps.execution.telemetry import Telemetry  # which brings Ray

    assert Telemetry("a\x1b\u202e", print).sweep == r"a\x1b\u202e"
    assert is_plain(_described({"purpose": "run", "pid": 1, "host": "a\x1b[2J", "since": "\u202e"}))
    cell = dict.fromkeys(Cell.__dataclass_fields__, 0) | {"recording": "a\x1b[2J", "backbone": {"name": "pixels"}}
    assert r"pixels -> a\x1b[2J: 1 cells" in str(Pack((Cell(**cell),)))  # type: ignore[arg-type]
    file = io.StringIO()
    with ReadProgress(Console(file=file, force_terminal=True, color_system=None, width=120)) as progress:
        progress.advance("[/red]\u202e\x07", 1, 2)
    assert r"[/red]\u202e\x07" in file.getvalue()
    row = {"recording": "$\\x$\x1b", "area": "[/red]\u202e", "against": None, "method": "fourier", "prediction": 0.5}
    row |= {"gain_over_best": 1.0, "gain_over_unguided": 1.0, "depth": 3, "readout": "ridge", "backbone": "pixels"}
    assert is_plain(title([{**row, "config": json.dumps({"backbone": {"name": "pixels"}})}]))
    folder = folder_name(Target("..", "x/../../\x1b" + "L" * 300, "V4"))
    assert "/" not in folder
    assert is_plain(folder)
    assert folder.startswith("..-x_")
    assert len(folder) <= 80
    assert folder_name(Target("small", "V4", "V1")) == "small-V4-V1"


# -- the commands -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An experiment file on a recording with hostile areas, and the storage of its sweep, where one trial failed."""
    folder = tmp_path_factory.mktemp("hostile")
    write_recording(folder / "[red]rec\x1b[31m", stimuli=20, areas=dict.fromkeys(HOSTILE, 1), repeats=2, size=8)
    experiment = {
        "name": "hostile",
        "recordings": [{"format": "folder", "path": str(folder / "[red]rec\x1b[31m"), "image": {"size": 32}}],
        "probes": {},
        "space": {"backbone": "pixels", "depth": {"shared": [0]}, "readout": {"ridge": {"pool": 4}}},
        "scores": ["prediction"],
        "contrasts": [{"name": "[/bold]\x1b[1m", "area": HOSTILE[1], "left": {"depth": [0]}, "right": {"depth": [0]}}],
        "storage": str(folder / "results"),
    }
    (folder / "hostile.yaml").write_text(json.dumps(experiment))
    plan = plan_of(experiment, folder)
    run_inline(plan)
    write_experiment(plan)
    return folder / "hostile.yaml", plan.storage


def test_check_and_show_print_hostile_names_as_they_are(hostile: tuple[Path, str]) -> None:
    file, storage = hostile
    for arguments in (["check", str(file)], ["show", storage]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert result.exception is None
        assert is_plain(result.output)
        flat = re.sub(r"\s+", "", result.output)
        for shown in [*SHOWN, r"[red]rec\x1b[31m" if arguments[0] == "check" else r"[/bold]\x1b[1m"]:
            assert shown in flat, shown
        assert "LLLLL..." in flat
        assert len(result.output) < 40_000


def test_tables_of_scores_and_of_forgotten_trials(hostile: tuple[Path, str]) -> None:
    _, storage = hostile
    trials = load(storage)
    printed = printed_by(
        lambda console: show_chosen(storage, trials["trial_id"].tolist(), ["prediction"], console), 900
    )
    assert is_plain(printed)
    for shown in [*SHOWN, r"[red]rec\x1b[31m"]:
        assert shown in printed
    failed = trials.assign(status="failed", error="boom [/red] \x1b]0;x\x07\nerror: forged \u202e")
    none = pd.DataFrame({"status": []})
    printed = printed_by(lambda console: show_forgotten(failed, len(failed), none, 0, console), 900)
    assert is_plain(printed)
    assert printed.count(r"boom [/red] \x1b]0;x\x07\nerror: forged \u202e") == len(failed)


def test_a_name_in_an_error_of_the_command(hostile: tuple[Path, str], tmp_path: Path) -> None:
    experiment = json.loads(hostile[0].read_text())
    experiment["space"]["depth"] = {"V9\x1b[2J[/red]": [0]}
    (tmp_path / "wrong.yaml").write_text(json.dumps(experiment))
    result = CliRunner().invoke(app, ["check", str(tmp_path / "wrong.yaml")])
    assert isinstance(result.exception, InputError)
    assert is_plain(str(result.exception))
    assert r"space.depth.V9\x1b[2J[/red]: no recording has this area" in str(result.exception)


# -- what is written later --------------------------------------------------------------------------

SHOWING = [
    path
    for room in ("report", "guidance", "commands")
    for path in sorted((ROOT / "sweeps" / room).rglob("*.py"))
    if path.name != "plain_text.py"
]


@pytest.mark.parametrize("path", SHOWING, ids=lambda path: path.stem)
def test_tables_and_lines_are_made_in_one_place(path: Path) -> None:
    """A console is given tables and empty lines: texts go through `print_line` and `PlainTable`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert "rich.table" not in modules
    assert "rich.text" not in modules
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    for call in calls:
        assert call.func.attr not in ("add_row", "add_column")  # type: ignore[attr-defined]
        if call.func.attr == "print":  # type: ignore[attr-defined]
            assert not any(isinstance(argument, ast.Constant | ast.JoinedStr) for argument in call.args), call.lineno
        if call.func.attr == "TextColumn":  # type: ignore[attr-defined]
            assert call.keywords, call.lineno


def test_the_command_prints_through_one_function() -> None:
    assert (ROOT / "sweeps" / "cli.py").read_text().count("typer.echo(") == 1


EXPORTS = re.compile(r"\.to_csv\(|\.to_html\(|\.to_excel\(|csv\.writer|DictWriter|\.html\b|export_html|save_html")


def test_nothing_is_exported_as_csv_or_html_yet() -> None:
    """Who adds an export guards it against formulas (a cell that begins with = + - @) and scripts, and tests that.

    Example recordings alone are written as CSV, with names of ours.
    """
    ours = [path for package in ("sweeps", "models", "metrics") for path in (ROOT / package).rglob("*.py")]
    writers = [path for path in ours if EXPORTS.search(path.read_text(encoding="utf-8"))]
    allowed = ("sweeps/recordings/examples", "sweeps/recordings/simulation")
    assert [path for path in writers if not path.relative_to(ROOT).as_posix().startswith(allowed)] == []
