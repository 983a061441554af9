"""Would rows of the potential's Hessian sharpen the estimate of a fragment's force errors?

clusterflow run configs/certificates.yaml
python workflows/hessian_indicator.py runs/certificates --output hessian_indicator.json

For every candidate around some sites: the true force errors of the required atoms against the periodic parent, the
indicators in use, and the norms of the Hessian rows of these atoms, to the atoms that the fragment lacks (in the
largest candidate) and to its termination atoms. Linear models of ln(error) are compared, each site left out in turn.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Site
from clusterflow.core.frames import content_hash, read_frames
from clusterflow.errors import LabelError
from clusterflow.extract.calibration import FLOOR
from clusterflow.extract.certificate import judge
from clusterflow.extract.confirm import fragment_forces
from clusterflow.extract.indicators import SAME_PLACE
from clusterflow.label.cost import fit_cost
from clusterflow.train.nequip_potential import NequIPPotential

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path, help="run folder of the campaign")
parser.add_argument("--output", type=Path, required=True)
parser.add_argument("--systems", nargs="*", default=["mof5", "zif8"])
parser.add_argument("--sites", type=int, default=5, help="random sites in each of two displaced frames per system")
parser.add_argument("--most", type=int, default=140, help="atoms of a candidate that is labelled")
args = parser.parse_args()

config = Campaign.model_validate(json.loads((args.run / "config.json").read_text()))
potential = NequIPPotential.load(args.run / "model")
rule = config.extract.build_certified(cost=fit_cost([], []).seconds, model=None, potential=potential)
reference, rng = config.label.build(), np.random.default_rng(3)
MODELS = {"graph": (1, 2), "difference": (0,), "difference, graph": (0, 1, 2), "rows": (3, 4), "all": (0, 1, 2, 3, 4)}


def forces(atoms, charge=0, spin=0):
    return reference.label(atoms, charge=charge, spin=spin).prediction.forces


def predicted(atoms):
    return potential.predict([atoms])[0].forces


def norms(rows, atoms):
    """ln of the norm of each row's blocks at some atoms, with the floor of the indicators."""
    return np.log(np.sqrt((rows[:, :, atoms] ** 2).sum(axis=(1, 2, 3))) + FLOOR)


def around(frame, index):
    """Indicators, environments and true errors of the required atoms in every candidate around one atom."""
    options, _ = rule.search(frame, [Site(content_hash(frame), index)])
    large, truth, everywhere = options.options[-1].fragment, forces(frame), predicted(frame)
    for option in options.options:
        fragment = option.fragment
        if len(fragment.atoms) > args.most:
            continue
        trial = judge(options, option, model=rule.error_model, forces=predicted, parent_forces=everywhere)
        required, real = trial.required, fragment.parent >= 0
        errors = np.linalg.norm(fragment_forces(fragment, forces)[required] - truth[fragment.parent[required]], axis=1)
        _, place = cKDTree(large.atoms.positions).query(fragment.atoms.positions[required])
        away, _ = cKDTree(fragment.atoms.positions[real]).query(large.atoms.positions)
        removed = norms(potential.hessian_rows(large.atoms, place.tolist()), np.flatnonzero(away > SAME_PLACE))
        caps = norms(potential.hessian_rows(fragment.atoms, required.tolist()), np.flatnonzero(~real))
        x = np.column_stack((trial.indicators[required], removed, caps))
        yield from zip(x.tolist(), [trial.environments[k] for k in required], errors.tolist(), strict=True)


rows = []
for number, system in enumerate(args.systems * 2):
    frame = read_frames(args.run / "inputs" / f"{system}.extxyz")[0]
    frame.positions += rng.normal(0.0, 0.05, frame.positions.shape)
    for index in rng.choice(len(frame), args.sites, replace=False).tolist():
        try:
            rows += [((number, index), *row) for row in around(frame, index)]
        except LabelError as error:
            print("left out:", error.what, flush=True)

y = np.log(np.array([error for *_, error in rows]) + FLOOR)
x, sites, kinds = np.array([r[1] for r in rows]), [r[0] for r in rows], sorted({r[2] for r in rows})
kind = np.array([[float(r[2] == k) for k in kinds] for r in rows])
told = {"atoms": len(rows), "correlation": [float(np.corrcoef(c, y)[0, 1]) for c in x.T]}
for name, columns in MODELS.items():
    design, residual = np.column_stack((x[:, columns], kind)), np.zeros(len(y))
    ridge = np.diag([0.05] * len(columns) + [2.0] * len(kinds))
    for site in set(sites):
        out = np.array([s == site for s in sites])
        a, mean = design[~out], y[~out].mean()
        residual[out] = y[out] - mean - design[out] @ np.linalg.solve(a.T @ a + ridge, a.T @ (y[~out] - mean))
    told[name] = {"scatter": float(residual.std()), "factor_95": float(np.exp(np.quantile(residual, 0.95)))}
    print(f"{name:18s} scatter of ln(error) {told[name]['scatter']:.2f}, 95 % below {told[name]['factor_95']:.1f} ×")
args.output.write_text(json.dumps(told, indent=1))
