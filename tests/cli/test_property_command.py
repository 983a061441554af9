"""`clusterflow property` as a user runs it: the file that comes with it, interruption, kill −9, and bad input."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from rich.console import Console

from clusterflow.campaign.property_outputs import rewrite_property_outputs
from clusterflow.campaign.property_plan import property_plan
from clusterflow.campaign.property_session import gather_property_inputs
from clusterflow.cli.property import names_and_file, run_properties
from clusterflow.cli.status import find_campaign, print_status
from clusterflow.config.load import load_campaign, load_properties
from clusterflow.core.data import Task
from clusterflow.core.frames import write_frames
from clusterflow.errors import ConfigError, InputError, ScienceError
from clusterflow.evaluate import energy_volume
from clusterflow.execution import property_stages, stages
from clusterflow.state.fsck import examine
from clusterflow.state.journal import read_events
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.snapshot import Snapshot

CONFIGS = Path(__file__).parents[2] / "configs"
RUN = """\
name: copper
seed: 3
potential: {calculator: "ase.calculators.emt:EMT"}
structures:
  - name: cu
    structure: cu.extxyz
    build: [{kind: supercell, repeat: [1, 1, 2]}]
  - {name: al, structure: al.extxyz}
properties:
  - {kind: energy_volume, points: 9, range: [0.93, 1.05], rattle: 0.02 Å}
  - {kind: heat_capacity, rows: 3, points: 4, structures: [cu]}
"""


def prepared(folder: Path, text: str = RUN) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_frames(folder / "cu.extxyz", [bulk("Cu", cubic=True)])
    write_frames(folder / "al.extxyz", [bulk("Al", cubic=True)])
    (folder / "run.yaml").write_text(text, encoding="utf-8")
    return folder / "run.yaml"


def run(file: Path, root: Path, *names: str, retry_failed: bool = False) -> int:
    return run_properties(
        [*names, str(file)], only=[], folder=root, engine="serial", retry_failed=retry_failed,
        console=Console(quiet=True),
    )  # fmt: skip


def command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clusterflow.cli.main", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=600, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(prepared(folder), folder / "out") == 0
    return folder / "out"


def test_results_tables_curves_figures_and_page(whole: Path) -> None:
    results = json.loads((whole / "results.json").read_text())
    assert results["potential"] == "ASE ase.calculators.emt:EMT {}"
    found = {(r["property"], r["structure"]): r["result"] for r in results["results"]}
    assert set(found) == {("energy_volume", "cu"), ("energy_volume", "al"), ("heat_capacity", "cu")}
    k = {s: found[("energy_volume", s)]["quantities"]["K"]["value"] for s in ("cu", "al")}
    assert k["cu"] == pytest.approx(134.5, rel=0.01)
    assert k["al"] == pytest.approx(39.7, rel=0.01)
    with (whole / "comparison-energy_volume.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["structure"]: float(r["K [GPa]"]) for r in rows} == pytest.approx(k)
    with (whole / "curves" / "energy_volume-cu-points.csv").open() as file:
        assert next(csv.reader(file))[:2] == ["volume [Å³]", "energy [eV]"]
    for name in ("energy_volume-comparison", "energy_volume-cu", "heat_capacity-cu"):
        assert (whole / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (whole / "figures" / f"{name}.svg").read_text()
    page = (whole / "report.html").read_text()
    assert "data:image/svg+xml;base64," in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert examine(CampaignFolder(whole)).damage == []


def test_the_same_as_compute_in_a_python_session(whole: Path) -> None:
    from ase.calculators.emt import EMT

    found = energy_volume.compute(bulk("Al", cubic=True), EMT(), points=9, range=(0.93, 1.05))
    results = json.loads((whole / "results.json").read_text())["results"]
    ours = next(r["result"] for r in results if (r["property"], r["structure"]) == ("energy_volume", "al"))
    assert ours["quantities"]["K"]["value"] == pytest.approx(found.quantities["K"].value, rel=2e-3)


def test_a_second_run_computes_nothing(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    shutil.copytree(whole, root)
    before = (root / "results.json").read_bytes()
    sent = sum(e.kind == "sent" for e in read_events(root / "journal.jsonl"))
    file = whole.parent / "run.yaml"
    assert run(file, root, "energy_volume") == 0  # the files still show all properties
    events = read_events(root / "journal.jsonl")
    assert sum(e.kind == "sent" for e in events) == sent
    assert (root / "results.json").read_bytes() == before
    (root / "results.json").unlink()
    (root / "report.html").unlink()
    rewrite_property_outputs(*find_campaign(root))  # `clusterflow report`
    assert (root / "results.json").read_bytes() == before
    assert (root / "report.html").is_file()


def test_kill_9_in_the_middle_recomputes_nothing_that_was_published(whole: Path, tmp_path: Path) -> None:
    file, root = prepared(tmp_path), tmp_path / "out"
    arguments = ["property", str(file), "--folder", str(root), "--engine", "serial"]
    for results in (3, 19):
        driver = subprocess.Popen(
            [sys.executable, "-m", "clusterflow.cli.main", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + 300
        while len(list(root.glob("tasks/*/*/result.json"))) < results:
            assert driver.poll() is None, driver.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.002)
        driver.send_signal(signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL
        assert driver.stderr is not None
        driver.stderr.close()
        there = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in root.glob("tasks/*/*/result.json")}
        last = read_events(root / "journal.jsonl")[-1].seq
    final = command(*arguments, cwd=tmp_path)
    assert final.returncode == 0, final.stderr
    assert "resuming copper" in final.stdout
    assert {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in there} == there
    again = {e.data["key"] for e in read_events(root / "journal.jsonl") if e.kind == "sent" and e.seq > last}
    assert again
    assert not again & {p.parent.name for p in there}
    assert (root / "results.json").read_bytes() == (whole / "results.json").read_bytes()


def test_the_file_that_comes_with_it(tmp_path: Path) -> None:
    """With the parallel engine, as anyone would run it first."""
    done = command("property", CONFIGS / "properties.yaml", "--folder", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done: all properties are done (6)" in done.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    k = {r["structure"]: r["result"]["quantities"]["K"]["value"] for r in results if r["property"] == "energy_volume"}
    assert k["Cu"] == pytest.approx(134.5, rel=0.01)
    screen = Console(record=True, quiet=False, file=io.StringIO())
    assert print_status(tmp_path / "out", as_json=False, console=screen) == "finished"
    text = screen.export_text()
    assert "relaxations" in text
    assert "training" not in text


def test_a_failure_is_reported_and_the_rest_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = prepared(tmp_path, RUN.replace("range: [0.93, 1.05]", "range: [1.0, 1.12]"))
    assert run(file, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "error: energy_volume of cu: Volume grid outside the stable range: of 9 volumes from 1 to 1.12" in said
    assert "try `range: [0.9" in said
    assert "next:" in said
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert [r["status"] for r in results] == ["failed", "failed", "done"]
    # A better grid in the same folder: only what is new is computed.
    before = {p.name for p in (tmp_path / "out" / "tasks" / "hessian").iterdir()}
    file.write_text(RUN.replace("rattle: 0.02 Å", "fmax: 2 meV/Å"), encoding="utf-8")
    assert run(file, tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "out" / "tasks" / "hessian").iterdir()} == before


def test_a_failed_task_is_tried_again_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = prepared(tmp_path)

    def broken(*_: object) -> dict[str, object]:
        raise ScienceError("The node had a bad day.")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "STAGES", {**stages.STAGES, "hessian": broken})
        patch.setattr("clusterflow.execution.apps.STAGES", {**stages.STAGES, "hessian": broken})
        assert run(file, tmp_path / "out", "heat_capacity") == 1
    assert run(file, tmp_path / "out", "heat_capacity") == 1
    assert run(file, tmp_path / "out", "heat_capacity", retry_failed=True) == 0


def test_the_plan_of_a_real_file_names_only_known_tasks() -> None:
    config = load_properties(CONFIGS / "properties.yaml")
    tasks: list[Task] = property_plan(config, gather_property_inputs(config), Snapshot()).tasks
    assert {t.kind for t in tasks} <= set(property_stages.PROPERTY_STAGES) <= set(stages.STAGES)


def test_names_come_before_the_file() -> None:
    assert names_and_file(["a", "b", "run.yaml"]) == (("a", "b"), Path("run.yaml"))
    with pytest.raises(InputError, match="the file comes last") as error:
        names_and_file(["run.yaml", "energy_volume"])
    assert "property energy_volume run.yaml" in error.value.todo
    with pytest.raises(InputError, match="There is no property file 'energy_volume'") as error:
        names_and_file(["energy_volume"])
    assert "clusterflow property energy_volume FILE.yaml" in error.value.todo


def test_bad_input_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    file = prepared(tmp_path)
    with pytest.raises(InputError, match="No property is called 'energy'"):
        run(file, tmp_path / "out", "energy")
    write_frames(tmp_path / "al.extxyz", [molecule("H2O")])
    with pytest.raises(InputError, match=r"H2O is not periodic in three directions") as error:
        run(file, tmp_path / "out")
    assert "property 'energy_volume' of structure 'al'" in error.value.where
    write_frames(tmp_path / "al.extxyz", [Atoms("Al2", [[0, 0, 0], [0, 0, 0.3]], cell=[4, 4, 4], pbc=True)])
    with pytest.raises(InputError, match=r"0\.3"):
        run(file, tmp_path / "other")
    (tmp_path / "al.extxyz").unlink()
    with pytest.raises(InputError, match="no structure file"):
        run(file, tmp_path / "third")
    with pytest.raises(InputError, match="cannot be imported"):
        run(prepared(tmp_path, RUN.replace("emt:EMT", "emt:EMTT")), tmp_path / "fourth")
    assert not list(tmp_path.glob("*/tasks"))


def test_campaigns_and_property_runs_do_not_share_files_or_folders(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a property file"):
        load_campaign(CONFIGS / "properties.yaml")
    with pytest.raises(ConfigError, match="is a campaign file"):
        load_properties(CONFIGS / "smoke.yaml")
    done = command("run", CONFIGS / "smoke.yaml", "--folder", whole, "--engine", "serial", cwd=tmp_path)
    assert done.returncode == 2
    assert "A property run lives in this folder" in done.stderr
    campaign = tmp_path / "campaign"
    campaign.mkdir()
    (campaign / "config.json").write_text('{"systems": []}')
    with pytest.raises(ConfigError, match="A campaign lives in this folder"):
        run(whole.parent / "run.yaml", campaign)
