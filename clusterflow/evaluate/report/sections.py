"""All sections of the report. Each takes the whole data and gives one `Section`; empty data gives a sentence."""

from __future__ import annotations

from clusterflow.evaluate.report.arms import controls
from clusterflow.evaluate.report.calibration import calibration
from clusterflow.evaluate.report.data import Citation, PotentialFiles, ReportData
from clusterflow.evaluate.report.gallery import fragments, structures
from clusterflow.evaluate.report.markup import Section, code, definitions, folded, link, missing, paragraph, text
from clusterflow.evaluate.report.quality import correlation, errors, feature_map, learning, novelty, parity
from clusterflow.evaluate.report.ramp import ramp
from clusterflow.evaluate.report.running import failures, timings, walkers, workers

CITATIONS = (
    Citation(
        "P. Dobbelaere, S. Vandenhaute and V. Van Speybroeck: Cluster-based machine learning potentials to describe "
        "disordered metal-organic frameworks up to the mesoscale (2025): the method.",
        "https://arxiv.org/abs/2504.03881",
    ),
    Citation(
        "Zhu et al., J. Chem. Phys. 158, 164111 (2023): Gaussian mixtures as uncertainty.",
        "https://arxiv.org/abs/2211.09866",
    ),
    Citation("Batzner et al., Nat. Commun. 13, 2453 (2022): NequIP.", "https://doi.org/10.1038/s41467-022-29939-5"),
    Citation("Mortensen et al., J. Chem. Phys. 160, 092503 (2024): GPAW.", "https://doi.org/10.1063/5.0182685"),
    Citation("Eastman et al., J. Phys. Chem. B 128, 109 (2024): OpenMM 8.", "https://doi.org/10.1021/acs.jpcb.3c06662"),
    Citation(
        "Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017): ASE.", "https://doi.org/10.1088/1361-648X/aa680e"
    ),
    Citation(
        "Pedregosa et al., J. Mach. Learn. Res. 12, 2825 (2011): scikit-learn.",
        "https://jmlr.org/papers/v12/pedregosa11a.html",
    ),
    Citation("Babuji et al., HPDC 2019: Parsl.", "https://doi.org/10.1145/3307681.3325400"),
)


def settings(data: ReportData) -> Section:
    """Level of theory and configuration."""
    body = paragraph(f"Level of theory: {data.level_of_theory or 'not recorded'}.")
    if data.settings:
        body += definitions(data.settings, "Settings")
    if data.config_text:
        body += folded("The campaign file as it was run", code(data.config_text))
    return Section("settings", "Level of theory and settings", body)


def environment(data: ReportData) -> Section:
    """Versions and machine."""
    body = definitions(data.environment, "Environment") if data.environment else missing("Not recorded.")
    return Section("environment", "Environment", body)


def usage(data: ReportData) -> Section:
    """How to use the potential."""
    p = data.potential
    if p is None:
        return Section("usage", "Use the potential", missing("Not yet: there is no trained potential."))
    facts = {"folder": p.folder, "model id": p.model_id, "elements": " ".join(p.elements)}
    if p.cutoff_A is not None:
        facts["cutoff"] = f"{p.cutoff_A:g} Å"
    facts.update({f"file for {k}": v for k, v in p.files.items()})
    body = definitions({k: v for k, v in facts.items() if v}, "The potential")
    body += "<h3>ASE</h3>" + code(p.ase_code or _ase_code(p))
    if p.lammps_code:
        body += "<h3>LAMMPS</h3>" + code(p.lammps_code)
    return Section("usage", "Use the potential", body)


def _ase_code(p: PotentialFiles) -> str:
    return "\n".join(
        (
            "from ase.io import read",
            "",
            "from clusterflow.train.learners import load_potential",
            "",
            f"potential = load_potential({p.folder!r})",
            'atoms = read("structure.cif")',
            "atoms.calc = potential.calculator()",
            'print(atoms.get_potential_energy(), "eV")',
        )
    )


def citations(data: ReportData) -> Section:
    """What to cite."""
    rows = "".join(
        f"<li>{text(c.text)}{' ' + link(c.url, c.url) if c.url else ''}</li>" for c in data.citations or CITATIONS
    )
    return Section("citations", "Please cite", f"<ol>{rows}</ol>")


def all_sections(data: ReportData) -> list[Section]:
    """Every section in reading order."""
    makers = (learning, parity, errors, novelty, correlation, calibration, feature_map, structures, walkers, fragments,
              failures, timings, workers, settings, environment, usage, citations)  # fmt: skip
    made = [make(data) for make in makers]
    if data.arms:
        made.insert(1, controls([data.arms]))
    if data.ramp:
        made.insert([s.anchor for s in made].index("walkers"), ramp(data))
    return made
