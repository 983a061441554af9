"""What to cite for a potential: the methods and programs that its campaign used, by its own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PAPERS: Final[Mapping[str, str]] = {
    "cluster": "P. Dobbelaere, S. Vandenhaute, V. Van Speybroeck, arXiv:2504.03881 (2025)",
    "locality": "M. Herbold, J. Behler, J. Chem. Phys. 156, 114106 (2022), doi:10.1063/5.0082952",
    "fragments": "M. Herbold, J. Behler, Phys. Chem. Chem. Phys. 25, 12979 (2023), doi:10.1039/d2cp05976b",
    "ramp": "A. Sharma, S. Sanvito, npj Comput. Mater. 10, 237 (2024), doi:10.1038/s41524-024-01427-y",
    "hessian": "N. Gönner, K. Reuter, J. T. Margraf, J. Chem. Theory Comput. 21, 4742 (2025), "
    "doi:10.1021/acs.jctc.4c01790",
    "mixture": "A. Zhu et al., J. Chem. Phys. 158, 164111 (2023), arXiv:2211.09866",
    "nequip": "S. Batzner et al., Nat. Commun. 13, 2453 (2022), doi:10.1038/s41467-022-29939-5",
    "soap": "A. P. Bartók, R. Kondor, G. Csányi, Phys. Rev. B 87, 184115 (2013), doi:10.1103/PhysRevB.87.184115",
    "sphericart": "F. Bigi et al., J. Chem. Phys. 159, 064802 (2023), doi:10.1063/5.0156307",
    "gpaw": "J. J. Mortensen et al., J. Chem. Phys. 160, 092503 (2024), doi:10.1063/5.0182685",
    "libxc": "S. Lehtola et al., SoftwareX 7, 1 (2018), doi:10.1016/j.softx.2017.11.002",
    "gfn1": "S. Grimme, C. Bannwarth, P. Shushkov, J. Chem. Theory Comput. 13, 1989 (2017), "
    "doi:10.1021/acs.jctc.7b00118",
    "gfn2": "C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019), doi:10.1021/acs.jctc.8b01176",
    "d3bj": "S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011), doi:10.1002/jcc.21759",
    "openmm": "P. Eastman et al., J. Phys. Chem. B 128, 109 (2024), doi:10.1021/acs.jpcb.3c06662",
    "ase": "A. H. Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017), doi:10.1088/1361-648X/aa680e",
    "parsl": "Y. Babuji et al., HPDC 2019, doi:10.1145/3307681.3325400",
}


def citations(kind: str, config: Mapping[str, Any], level_of_theory: str) -> list[tuple[str, str]]:
    """(what it is cited for, reference) for a potential of this kind; ``config`` {} where no campaign is known."""
    level = level_of_theory.lower()
    extract, select = _kind(config, "extract"), _kind(config, "select")
    explore = config.get("explore") or {}
    ramp = isinstance(explore.get("temperature"), Mapping)
    wanted = {
        "cluster": ("the method: active learning from finite fragments", bool(config)),
        "fragments": (
            "fragments that are smaller than the reach of the forces",
            extract in ("building_blocks", "sphere", "certified"),
        ),
        "locality": (
            "which groups to keep whole, and how far a force reaches",
            extract in ("building_blocks", "certified"),
        ),
        "ramp": (
            "the temperature ramp and the choice of frames by empty bins"
            if ramp and select == "cbad"
            else "the temperature ramp"
            if ramp
            else "the choice of frames by empty bins",
            ramp or select == "cbad",
        ),
        "mixture": ("novelty by a Gaussian mixture", _kind(config, "score") == "gmm"),
        "nequip": ("the potential", kind == "nequip"),
        "soap": ("the functions of the linear potential", kind == "linear"),
        "sphericart": ("spherical harmonics", kind == "linear"),
        "gpaw": ("the labels", "gpaw" in level),
        "libxc": ("functionals", "gpaw" in level),
        "gfn1": ("the level of theory", "gfn1" in level),
        "gfn2": ("the level of theory", "gfn2" in level),
        "d3bj": ("dispersion", "d3" in level),
        "openmm": ("dynamics", bool(explore) and explore.get("kind", "openmm") == "openmm"),
        "ase": ("structures, and dynamics where not OpenMM's", True),
        "parsl": ("distributing the work", bool(config)),
        "hessian": ("only if you compute heat capacities or vibrations with it", True),
    }
    return [(reason, PAPERS[name]) for name, (reason, used) in wanted.items() if used]


def _kind(config: Mapping[str, Any], section: str) -> str:
    return str((config.get(section) or {}).get("kind", ""))
