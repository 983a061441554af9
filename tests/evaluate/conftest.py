"""Made-up report data of realistic shape. Nothing here was computed by DFT or a potential: it only tests the page."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.core import keys
from clusterflow.core.data import Prediction
from clusterflow.evaluate.learning_curve import learning_curve
from clusterflow.evaluate.metrics import compare
from clusterflow.evaluate.report import collect
from clusterflow.evaluate.report.calibration_data import CalibrationView, ReliabilityView
from clusterflow.evaluate.report.data import (
    Bar,
    CorrelationRow,
    Cost,
    FailureRow,
    LagRow,
    LaneStrip,
    ModelResult,
    PotentialFiles,
    RampRow,
    ReportData,
    TimingRow,
    WalkerRow,
)
from clusterflow.evaluate.report.structure_views import FORCE_ERROR, structure_view


def zinc_node(rings=True):
    """Zn4O(CO2)6 with six phenyl rings (mantle) closed by H, or with formates: drawn, not relaxed."""
    symbols, positions, region = ["O"], [[0.0, 0.0, 0.0]], ["core"]
    for corner in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        symbols.append("Zn")
        positions.append(list(np.array(corner) * 1.94 / np.sqrt(3)))
        region.append("core")
    for k in range(3):
        for sign in (1, -1):
            axis = np.eye(3)[k] * sign
            # The two Zn of this edge lie in the plane of the axis and this direction.
            side = np.roll([0.0, 1.0, 1.0 * sign], k) / np.sqrt(2)
            atoms = [("O", 3.0, 1.12, "core"), ("O", 3.0, -1.12, "core"), ("C", 3.57, 0.0, "core")]
            if rings:
                centre = 5.05 + 1.395
                for i in range(6):
                    a = np.pi / 3 * i
                    atoms.append(("C", centre - 1.395 * np.cos(a), 1.395 * np.sin(a), "mantle"))
                    if i:
                        where = "termination" if i == 3 else "mantle"
                        atoms.append(("H", centre - 2.485 * np.cos(a), 2.485 * np.sin(a), where))
            else:
                atoms.append(("H", 4.67, 0.0, "termination"))
            for symbol, along, across, part in atoms:
                symbols.append(symbol)
                positions.append(list(axis * along + side * across))
                region.append(part)
    atoms = Atoms(symbols, positions)
    atoms.set_array(keys.REGION, np.array(region))
    atoms.set_array(keys.PARENT, np.where(np.array(region) == "termination", -1, np.arange(len(region))))
    atoms.info.update({keys.KIND: "node Zn4O(CO2)6", keys.SYSTEM: "mof5", keys.CHARGE: 0, keys.SPIN: 0})
    return atoms


def labelled(n, seed, system="mof5"):
    """Test frames with invented labels."""
    rng, frames = np.random.default_rng(seed), []
    for i in range(n):
        atoms = zinc_node(rings=i % 2 == 0)
        atoms.info[keys.SYSTEM] = system if i % 3 else "mof5, missing linker"
        atoms.positions += rng.normal(0, 0.05, (len(atoms), 3))
        energy = -6.1 * len(atoms) + 0.01 * len(atoms) * rng.normal()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=rng.normal(0, 1.0, (len(atoms), 3)))
        frames.append(atoms)
    return frames


def predicted(frames, error, seed):
    """The labels with heavy-tailed noise, worst for Zn and in the core."""
    rng, out = np.random.default_rng(seed), []
    for atoms in frames:
        weight = np.where(atoms.numbers == 30, 2.5, 1.0) * np.where(atoms.arrays[keys.REGION] == "core", 1.4, 0.8)
        noise = rng.standard_t(3, (len(atoms), 3)) * weight[:, None] * error
        shift = len(atoms) * error * (0.02 + 0.01 * rng.normal())
        results = atoms.calc.results
        out.append(Prediction(results["energy"] + shift, results["forces"] + noise))
    return out


def calibrations(rng):
    """On the test set all is well; on the new labels the errors are twice what is expected."""
    views = []
    for new, factor in ((False, 1.0), (True, 2.1)):
        expected = np.sort(rng.gamma(3.0, 0.03, 8))
        true = factor * expected * rng.uniform(0.85, 1.15, 8)
        diagram = tuple((float(e), float(t), float(2.4 * e), 60) for e, t in zip(expected, true, strict=True))
        rows = [
            ReliabilityView(
                "all",
                480,
                31,
                12,
                0.91 / factor**0.5,
                0.82 / factor,
                0.97 / factor**0.5,
                float(true.mean()),
                float(expected.mean()),
                0.48,
                0.31,
                0.6,
                diagram,
            )
        ]
        rows += [ReliabilityView(e, 120, 5, 0, 0.9 / factor**0.5, None, None, 0.09, 0.1, 0.4) for e in "CHO"]
        alarm = ("force errors of all atoms exceed their bounds too often: 63% are within (39% to 67%), below 80%",)
        views.append(CalibrationView(2, new, 0.9, 14, "", alarm if new else (), tuple(rows)))
    return [
        *views,
        CalibrationView(1, refused="12 held-out atoms of 1 independent structures cannot calibrate a novelty."),
    ]


def example(iterations=3, fragments=9, seed=0):
    rng = np.random.default_rng(seed)
    test = labelled(14, 1)
    levels = [0.30 * 0.62**i for i in range(iterations)]
    predictions = [predicted(test, e, 10 + i) for i, e in enumerate(levels)]
    metrics = [compare(test, p) for p in predictions]
    models = [
        ModelResult(i, f"{i}b7e19", m, collect.parity(test, p), 160.0, 40)
        for i, (m, p) in enumerate(zip(metrics, predictions, strict=True))
    ]
    novelty, maps, correlations = [], [], []
    for i in range(1, iterations):
        for n_known, element in ((60, "Zn"), (900, "C"), (700, "H"), (800, "O")):
            known = rng.normal(size=(n_known, 8)) + 3.0 * (rng.random((n_known, 1)) > 0.6)
            new = rng.normal(size=(3000, 8)) * (1.0 + 0.8 / i) + 3.0 * (rng.random((3000, 1)) > 0.5)
            score = [-5 + 0.5 * np.sum((x - 1.2) ** 2, axis=1) for x in (known, new)]
            if element == "Zn" and i == 1:
                score[1][:20] = 4000.0
            novelty.append(collect.novelty_histograms(i, element, *score))
            far = new[np.argsort(score[1])[-8:]]
            maps.append(
                collect.feature_map(i, element, known, new, far, components=2,
                                    selected_atoms=np.array([(3, k) for k in range(8)]),
                                    bic={k: 900 - 300 * min(k, 2) + 25 * k for k in range(1, 7)})
            )  # fmt: skip
        for element, rho in (("all", 0.58), ("C", 0.41), ("H", 0.22), ("O", 0.66), ("Zn", None)):
            interval = (None, None) if rho is None else (rho - 0.13, rho + 0.09)
            correlations.append(CorrelationRow(i, element, 120, 2 if element == "all" else 0, rho, *interval, rho))
        novelty.append(collect.novelty_histograms(i, "Zr", [], [np.inf] * 12))
    views = []
    for i in range(fragments):
        atoms = zinc_node(rings=i % 3 != 1) if i % 3 != 2 else molecule("C6H6")
        atoms.info.update({keys.ITERATION: i // 3, keys.FRAGMENT: f"{i:02d}c4f0a99b1e27d3"})
        status = "failed" if i == 4 else "labelled"
        atoms.set_array(keys.NOVELTY, np.linspace(-20.0, 31.0 - i, len(atoms)))
        views.append(structure_view(atoms, status=status, label_seconds=22.5 + i))
    errors = [1000.0 * np.linalg.norm(p.forces - a.calc.results["forces"], axis=1)
              for p, a in zip(predictions[-1], test, strict=True)]  # fmt: skip
    drawn = [structure_view(a, name=f"test {k}", status="test", scalars={FORCE_ERROR: e})
             for k, (a, e) in enumerate(zip(test[:3], errors, strict=False))]  # fmt: skip
    crystal = bulk("Cu", cubic=True).repeat(2)
    drawn.append(structure_view(crystal, status="explored", scalars={"novelty [nats]": np.arange(32.0)}, marked=[5, 6]))
    reasons = ("", "", "", "H–O 0.61 Å apart (limit 0.75 Å) at step 1340", "temperature 2140 K at step 90")
    walkers = [
        WalkerRow(i, f"w{k:02d}", ("mof5", "mof5, missing linker")[k % 2], 600.0, round(rng.uniform(-1.5, 1.5), 2),
                  (250 if reasons[(i + k) % 5] else 500) * i, 500 * i, 5 * i, reasons[(i + k) % 5])
        for i in range(1, iterations) for k in range(6)
    ]  # fmt: skip
    return ReportData(
        campaign="MOF-5 with missing linkers (test data)",
        state="finished",
        reason="The planned 2 iterations are done.",
        generated="2026-01-31 12:00 UTC",
        clusterflow_version="0.1.0",
        iterations_done=iterations - 1,
        iterations_planned=iterations - 1,
        labels_done=26,
        labels_failed=1,
        cost=Cost(1042.0, 1930.0, 812.0, 341.0),
        level_of_theory="GPAW 26.7 PBE LCAO dzp, h 0.2 Å, vacuum 4 Å, Γ",
        test_frames=14,
        learning=learning_curve([(i, 12 + 7 * i, 300.0 + 250.0 * i, m) for i, m in enumerate(metrics)]),
        models=tuple(models),
        novelty=tuple(novelty),
        correlations=tuple(correlations),
        calibrations=tuple(calibrations(rng)),
        feature_maps=tuple(maps),
        walkers=tuple(walkers),
        fragments=tuple(views),
        structures=tuple(drawn),
        failures=(
            FailureRow("label", "04c4f0a99b1e", "The SCF cycle did not converge in 3 attempts (last change 2e-3 eV).",
                       "labels/04c4f0a99b1e/gpaw.txt", "Nothing: the fragment is left out.", 1),
        ),
        timings=(
            TimingRow("explore", 12, 160.2, 160.2, 890.0),
            TimingRow("label", 27, 812.0, 812.0, 1460.0),
            TimingRow("train", 3, 455.0, 910.0, 1320.0),
            TimingRow("evaluate", 3, 12.4, 12.4, 700.0),
        ),
        lanes=(LaneStrip("md", 12, 2, 0.61, 0.4, 3.1, (Bar(0.0, 80.0, 0), Bar(5.0, 85.2, 1))),
               LaneStrip("label", 27, 1, 0.8, 12.0, 90.5, (Bar(85.0, 897.0, 0),))),
        periods=((0.0, 500.0), (620.0, 1042.0)),
        lags=(LagRow(1, 7, 0.0), LagRow(2, 7, 1.5)),
        ramp=(RampRow(1, 100.0, 8, 0, 8, "rise", ""),
              RampRow(2, 200.0, 8, 5, 3, "stop", "5 of 8 walkers blew up at 200 K")),
        settings={"explore.temperature": "600 K", "explore.pressure": "−1.5 to 1.5 GPa", "train.l_max": "1"},
        config_text="name: mof5\nstop:\n  iterations: 2\n",
        environment={"python": "3.11", "nequip": "0.19.1", "gpaw": "26.7.0", "machine": "2 cores, no GPU"},
        potential=PotentialFiles("model", "2b7e19", ("C", "H", "O", "Zn"), 4.5, {"ASE": "model/ase.nequip.pt2"}),
    )  # fmt: skip


@pytest.fixture(scope="session")
def example_report():
    return example()


@pytest.fixture(scope="session")
def make_example():
    return example


@pytest.fixture
def node():
    return zinc_node()


@pytest.fixture
def labelled_frames():
    return labelled(5, 3)
