"""The repository as a whole: what the documentation promises exists, and what set-up would do is right."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "configs/README.md", *(ROOT / "docs").rglob("*.md")])
LEFTOVERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "build", "select"}


def tracked() -> list[Path]:
    """Files that are or would be in the repository."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listing.returncode != 0:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


def make_targets() -> dict[str, str]:
    """Targets of the Makefile with their one-line help."""
    return dict(re.findall(r"^([a-z-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(), re.M))


def code_in(document: Path) -> str:
    """Blocks and inline code of a document, each piece on lines of its own."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```\w*\n.*?^```", "", text, flags=re.M | re.S))
    return "\n".join(blocks + inline)


def siteconfig_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpaw_siteconfig", ROOT / "setup/gpaw_siteconfig.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def identifier(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=identifier)
def test_make_commands_in_documents_exist(document: Path) -> None:
    named = set(re.findall(r"^make ([a-z-]+)", code_in(document), re.M))
    assert named <= set(make_targets()), f"{identifier(document)} names targets the Makefile lacks"


def test_make_help_is_the_default_and_lists_everything() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    out = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target, text in make_targets().items():
        assert re.search(rf"^  make {target} +{re.escape(text)}$", out, re.M), target
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert phony is not None
    assert set(phony[1].split()) == set(make_targets())


@pytest.mark.parametrize("document", DOCUMENTS, ids=identifier)
def test_links_resolve(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    broken = [
        link
        for link in links
        if not link.startswith(("https://", "http://", "mailto:", "#"))
        and not (document.parent / link.partition("#")[0]).exists()
    ]
    assert not broken


def test_every_page_is_linked_from_the_index() -> None:
    links = re.findall(r"\]\(([^)\s#]+\.md)\)", (ROOT / "docs/index.md").read_text(encoding="utf-8"))
    linked = {(ROOT / "docs" / link).resolve() for link in links} | {ROOT / "docs/index.md"}
    assert set((ROOT / "docs").rglob("*.md")) <= linked


def test_pages_that_the_code_names_exist() -> None:
    named = {
        (identifier(path), page)
        for path in tracked()
        if path.suffix in (".py", ".yaml") and path != Path(__file__).resolve()
        for page in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert not {(path, page) for path, page in named if not (ROOT / page).is_file()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=identifier)
def test_clusterflow_commands_in_documents_exist(document: Path) -> None:
    from clusterflow.cli.main import app

    known = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback is not None}
    named = set(re.findall(r"^clusterflow ([a-z]+)", code_in(document), re.M))
    assert named <= known


def test_readme_lists_every_clusterflow_command() -> None:
    from clusterflow.cli.main import app

    known = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback is not None}
    rows = set(re.findall(r"^\| `clusterflow ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M))
    assert rows == known


def test_readme_example_is_a_valid_campaign(tmp_path: Path) -> None:
    from clusterflow.config.load import load_campaign

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- example: .*? -->\n```yaml\n(.*?)```", readme, re.S)
    assert found is not None
    example = tmp_path / "example.yaml"
    example.write_text(found[1].replace("configs/", f"{ROOT}/configs/"), encoding="utf-8")
    campaign = load_campaign(example)
    quickstart = load_campaign(ROOT / "configs/quickstart.yaml")
    assert campaign.extract == quickstart.extract
    assert campaign.label == quickstart.label
    for system, other in zip(campaign.systems, quickstart.systems, strict=True):
        assert system.atoms() == other.atoms()
        assert system.resolved_ensemble(periodic=True) == other.resolved_ensemble(periodic=True)


def test_run_folder_in_readme_is_the_real_one() -> None:
    from clusterflow.state.layout import CampaignFolder

    folder = CampaignFolder(ROOT / "runs" / "quickstart")
    listed = set(re.findall(r"^[├└]── (\S+?)/? ", (ROOT / "README.md").read_text(encoding="utf-8"), re.M))
    parts = (
        "report",
        "model",
        "dataset",
        "metrics",
        "config",
        "environment",
        "inputs",
        "journal",
        "events",
        "computed",
        "labels",
        "tasks",
        "work",
    )
    assert listed == {getattr(folder, part).name for part in parts} | {"lease", "parsl"}


def test_every_configuration_is_in_the_table_and_loads() -> None:
    from clusterflow.config.load import describes_properties, load_campaign, load_properties

    files = {p.name for p in (ROOT / "configs").glob("*.yaml")}
    rows = set(re.findall(r"^\| \[([\w-]+\.yaml)\]\(\1\)", (ROOT / "configs/README.md").read_text(), re.M))
    assert rows == files
    for name in sorted(files):
        path = ROOT / "configs" / name
        used = load_properties(path).structures if describes_properties(path) else load_campaign(path).systems
        assert all(one.structure.is_file() for one in used), name


def test_no_module_is_named_for_being_left_over() -> None:
    bad = [p for p in tracked() if p.suffix == ".py" and LEFTOVERS & {p.stem, *p.relative_to(ROOT).parts[:-1]}]
    assert not bad


def test_python_files_stay_small_enough_to_read() -> None:
    long = {identifier(p): n for p in tracked() if p.suffix == ".py" and (n := len(p.read_text().splitlines())) > 500}
    assert not long


def test_nothing_unfinished_or_unsafe_in_the_package() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b|NotImplementedError|^\s*(?:import|from) pickle\b|shell=True", re.M)
    bad = {
        identifier(path): found.group(0)
        for path in tracked()
        if path.suffix == ".py"
        and path.is_relative_to(ROOT / "clusterflow")
        and (found := marks.search(path.read_text(encoding="utf-8")))
    }
    assert not bad


def test_constraints_cover_the_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["dev"] + extras["gpaw"]
    lines = [line for line in (ROOT / "setup/constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    names = {plain(re.split(r"[<>=!~\[; ]", text)[0]) for text in wanted}
    assert names <= {plain(name) for name in pinned}
    script = (ROOT / "setup/install.sh").read_text()
    for name in ("torch", "gpaw"):
        assert f"{name}=={pinned[name]}" in script


def test_siteconfig_uses_only_what_links() -> None:
    module = siteconfig_module()

    def without(*missing: str) -> str:
        def probe(compiler: str, _source: str, libraries: list[str]) -> bool:
            return compiler not in missing and not set(libraries) & set(missing)

        return module.siteconfig(module.find(probe=probe))

    has_mpirun = shutil.which("mpirun") is not None
    full, no_mpi, no_scalapack = without(), without("mpic++"), without("scalapack-openmpi", "scalapack")
    assert f"mpi = {has_mpirun}" in full
    assert f"scalapack = {has_mpirun}" in full
    assert "'openblas'" in full
    assert "mpi = False" in no_mpi
    assert "scalapack = False" in no_mpi
    assert "compiler = 'g++'" in no_mpi
    assert "scalapack = False" in no_scalapack
    assert "scalapack-openmpi" not in no_scalapack
    assert "'blas'" in without("openblas")
    for text in (full, no_mpi, no_scalapack):  # GPAW executes this file
        compile(text, "siteconfig.py", "exec")


def test_siteconfig_refuses_a_machine_without_libxc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = siteconfig_module()
    monkeypatch.setattr(module, "XC", "#include <no_such_header_xc.h>\nint main() {}\n")
    assert module.main([str(tmp_path / "siteconfig.py")]) == 1
    assert not (tmp_path / "siteconfig.py").exists()


@pytest.mark.parametrize("with_apt", [True, False], ids=["apt-get fails", "no apt-get"])
def test_set_up_that_may_not_install_prints_one_line_and_exits_2(tmp_path: Path, with_apt: bool) -> None:
    """A Python that is too old, no compiler and no way to install: the message is the way out."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in (
        "awk",
        "bash",
        "cat",
        "cut",
        "date",
        "dirname",
        "env",
        "flock",
        "mkdir",
        "rm",
        "sha256sum",
        "tee",
        "tr",
    ):
        (tools / name).symlink_to(shutil.which(name) or pytest.skip(f"{name} is not installed"))
    stubs = {"python3": "echo 3.9", **({"apt-get": "exit 1", "apt-cache": "exit 1"} if with_apt else {})}
    for name, body in stubs.items():
        (tools / name).write_text(f"#!{tools}/bash\n{body}\n")
        (tools / name).chmod(0o755)
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "setup", clone / "setup")
    (clone / "pyproject.toml").write_text("")
    done = subprocess.run(
        [str(tools / "bash"), str(clone / "setup/install.sh")],
        env={"PATH": str(tools), "HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "a Python 3.11 to 3.14" in done.stderr
    assert "(3.9)" in done.stderr
    assert "compiler xc blas" in done.stderr
    lines = [line for line in done.stderr.splitlines() if "libxc-dev" in line]
    assert len(lines) == 1
    assert {"python3-venv", "g++", "libopenblas-dev"} <= set(lines[0].split())
    assert ("apt-get install -y" in lines[0]) == with_apt


def test_set_up_scripts_are_valid_bash() -> None:
    for script in (ROOT / "setup/install.sh", ROOT / "setup/system.sh", ROOT / ".ci/run"):
        done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_help_needs_no_heavy_package() -> None:
    code = (
        "import sys\nfrom clusterflow.cli.main import app\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print(*sorted({'torch', 'nequip', 'gpaw', 'openmm', 'sklearn', 'parsl', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""
