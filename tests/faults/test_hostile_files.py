"""No pickle is ever loaded, and nothing else that runs code: not by name, not by place, not in disguise."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import clusterflow
from clusterflow.campaign.loop import Interrupted
from clusterflow.campaign.outputs import write_outputs
from clusterflow.campaign.report import write_report
from clusterflow.cli.fsck import check_folder
from clusterflow.cli.status import find_campaign, print_status
from clusterflow.testing.potential_contract import tiny_labelled_frames
from clusterflow.testing.toy_science import drive_toy, toy_config

PACKAGE = Path(clusterflow.__file__).parent


class Hostile:
    """Unpickling it creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self.mark,))


def hostile_files(mark: Path) -> dict[str, bytes]:
    """The pickle itself, and in the containers in which pickles are met."""
    plain = pickle.dumps(Hostile(mark))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:  # as torch.save writes it, and npz with an object array
        file.writestr("archive/data.pkl", plain)
        file.writestr("archive/version", "3\n")
        file.writestr("novelty.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
                      + b" " * 62 + b"\n" + plain)  # fmt: skip
    yaml = f"!!python/object/apply:os.mkdir ['{mark}']\n"
    return {"pickle": plain, "zip": archive.getvalue(), "yaml": yaml.encode()}


def test_the_hostile_files_are_hostile(tmp_path: Path) -> None:
    """Otherwise nothing below would be shown."""
    files = hostile_files(tmp_path / "mark")
    pickle.loads(files["pickle"])  # noqa: S301 - our own
    assert (tmp_path / "mark").is_dir()
    (tmp_path / "mark").rmdir()
    with zipfile.ZipFile(io.BytesIO(files["zip"])) as archive:
        pickle.loads(archive.read("archive/data.pkl"))  # noqa: S301
    assert (tmp_path / "mark").is_dir()


@pytest.fixture(scope="module")
def halfway(memory: Path) -> Path:
    """A campaign after its first model, with everything that a later run would read."""
    folder = memory / "hostile-source"
    config = toy_config(folder)
    with pytest.raises(Interrupted):
        drive_toy(config, stop=lambda: any((folder / "run" / "tasks" / "evaluate").glob("*/result.json")))
    place, snapshot = find_campaign(folder / "run")
    write_outputs(place, snapshot)
    write_report(place, snapshot)
    return folder


def everything(folder: Path) -> Iterator[str]:
    """Reads a campaign in every way there is; yields the command, whatever it says."""
    root = folder / "run"
    quiet = Console(file=io.StringIO())
    commands = {
        "status": lambda: print_status(root, as_json=False, console=quiet),
        "report": lambda: write_report(*find_campaign(root)),
        "fsck": lambda: check_folder(root, rebuild=False, as_json=False, console=quiet),
        "run": lambda: drive_toy(toy_config(folder)),
        "fsck --rebuild": lambda: check_folder(root, rebuild=True, as_json=False, console=quiet),
        "run again": lambda: drive_toy(toy_config(folder)),
        "outputs": lambda: write_outputs(*find_campaign(root)),
    }
    for name, command in commands.items():
        with contextlib.suppress(Exception):  # what it says of the damage is shown elsewhere
            command()
        yield name


PLACES = (
    "checkpoint.pkl", "journal.pkl", "state.pickle", "snapshot.joblib", "config.yaml", "campaign.yaml", "labels.pkl",
    "parsl/000/checkpoint/tasks.pkl", "parsl/000/checkpoint/dfk.pkl", "runinfo/000/checkpoint/tasks.pkl",
    "labels/labels.pkl", "labels/ab/ab.pkl", "labels/index.db", "inputs/water.pkl", "inputs/water.traj",
    "inputs/water.json.pkl", "model/weights.pt", "model/model.pth", "model/best.ckpt", "model/last.ckpt",
    "tasks/start/x/result.pkl", "tasks/train/x/model/weights.pt", "lease/lease.pkl", "work/x/restart.pt",
    "work/x/last.ckpt", "work/x/result.json.pkl", "dataset.pkl", "dataset.npz", "environment.pkl",
)  # fmt: skip
"""Names under which programs like this one keep pickles."""


@pytest.mark.parametrize("kind", ["pickle", "zip", "yaml"])
def test_beside_what_is_there(halfway: Path, fast: Path, unsynchronised: None, kind: str) -> None:
    mark = fast / "mark"
    folder = fast / "toy"
    shutil.copytree(halfway, folder)
    scratch = [f"work/{p.parent.name}-{p.name[:16]}" for p in (folder / "run" / "tasks").glob("*/*")]
    for name in [*PLACES, *(f"{s}/{n}" for s in scratch for n in ("restart.pt", "restart.safetensors", "last.ckpt"))]:
        path = folder / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hostile_files(mark)[kind])
    for command in everything(folder):
        assert not mark.exists(), command
    assert drive_toy(toy_config(folder)).finished  # it was not spared by standing still
    assert not mark.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pickle", "zip", "yaml"])
def test_in_place_of_each_file(halfway: Path, fast: Path, unsynchronised: None, kind: str) -> None:
    mark, folder = fast / "mark", fast / "toy"
    names = sorted(p.relative_to(halfway) for p in (halfway / "run").rglob("*") if p.is_file())
    assert len(names) > 25
    hostile = hostile_files(mark)[kind]
    for name in names:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(halfway, folder)
        (folder / name).write_bytes(hostile)
        for command in everything(folder):
            assert not mark.exists(), f"{command} after {name} was replaced"


@pytest.mark.parametrize("kind", ["pickle", "zip"])
def test_a_training_and_a_model_do_not_load_it(tmp_path: Path, kind: str) -> None:
    """A restart file and a start model, under every name, and in place of each file of a model."""
    from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
    from clusterflow.train.nequip_potential import NequIPPotential
    from clusterflow.train.nequip_train import RESTART_FILE, NequIPTrainer

    mark = tmp_path / "mark"
    hostile = hostile_files(mark)[kind]
    settings = NequIPModelSettings.preset("small", layers=1, features=2, r_max=3.0)
    trainer = NequIPTrainer(settings, NequIPTrainingSettings(max_epochs=1), ("H", "C", "O"))
    frames = tiny_labelled_frames(4, seed=1)
    work = tmp_path / "work"
    work.mkdir()
    for name in (RESTART_FILE, "last.ckpt", "best.ckpt", "restart.pt", "model.pt"):
        (work / name).write_bytes(hostile)
    model = trainer.train(frames[:3], frames[3:], start=None, seed=1, workdir=work)
    assert not mark.exists()
    files = [p.name for p in Path(model.path).iterdir()]
    for name in (*files, "model.pt", "weights.pt", "model.ckpt", "model.nequip.zip"):
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(model.path, folder)
        (folder / name).write_bytes(hostile)
        with contextlib.suppress(Exception):
            NequIPPotential.load(folder).predict(frames[:1])
        assert not mark.exists(), name
        with contextlib.suppress(Exception):
            trainer.train(frames[:3], frames[3:], start=folder, seed=1, workdir=tmp_path / f"start-{name}")
        assert not mark.exists(), name


@pytest.mark.parametrize("kind", ["pickle", "zip"])
def test_a_walk_does_not_load_it(tmp_path: Path, kind: str) -> None:
    """A checkpoint under each name that a walk looks for."""
    from ase.build import bulk

    from clusterflow.explore.openmm_md import OpenMMExplorer
    from clusterflow.testing.analytic_potentials import LennardJones

    mark = tmp_path / "mark"
    for step in (1000, 2000):
        (tmp_path / f"walk-{step:012d}.npz").write_bytes(hostile_files(mark)[kind])
    potential = LennardJones(epsilon=0.25, sigma=2.6, cutoff=5.2)
    start = bulk("Cu", "fcc", a=3.8, cubic=True).repeat(2)
    walk = OpenMMExplorer(300.0, None, 20).explore(start, potential, seed=1, workdir=tmp_path)
    assert walk.steps_done == 20
    assert not mark.exists()


# -- what the source says

PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal", "jsonpickle"}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_no_module_imports_a_pickler() -> None:
    """Parsl pickles the text of a task for its transport, in its own modules; ours never name a pickler."""
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name) and node.args:
                function = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                first = node.args[0]
                if function in ("import_module", "__import__") and isinstance(first, ast.Constant):
                    names.append(str(first.value))
            found += [f"{path.relative_to(PACKAGE)}: {n}" for n in names if n.split(".")[0] in PICKLES]
    assert len(sources()) > 150
    assert not found


def test_nothing_that_loads_code_is_called_unsafely() -> None:
    """torch.load with weights_only=True alone, np.load with allow_pickle=False said, YAML by its safe readers, and
    neither eval nor exec."""
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            where = f"{path.relative_to(PACKAGE)}, line {node.lineno}"
            called = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            last = called.rsplit(".", maxsplit=1)[-1]
            if called in ("eval", "exec", "compile", "builtins.eval", "builtins.exec"):
                found.append(f"{where}: {called}")
            if called.startswith("torch.") and last == "load" and given.get("weights_only") != "True":
                found.append(f"{where}: {called} without weights_only=True")
            if called in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
                found.append(f"{where}: {called} without allow_pickle=False")
            if last == "YAML" and given.get("typ") not in ("'safe'", "'rt'"):
                found.append(f"{where}: YAML of another type than safe or rt")
            if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load") and "YAML(" not in path.read_text():
                found.append(f"{where}: {called}")
            if last in ("read_pickle", "load_pickle", "loads_pickle", "unpickle"):
                found.append(f"{where}: {called}")
    assert not found
