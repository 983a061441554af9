"""The spectrum as a property: means and errors over runs, the Hessian beside it, notes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clusterflow.errors import ScienceError
from clusterflow.evaluate.property_figures import comparison, figure
from clusterflow.evaluate.property_result import PropertyResult
from clusterflow.evaluate.vibrational_spectrum import Run, overlap, vibrational_spectrum
from clusterflow.physics.spectrum import Spectrum, broadened
from clusterflow.physics.vibrations import Modes

GRID = np.linspace(0.0, 4000.0, 801)
LINES = {"C": np.array([400.0, 900.0, 1200.0]), "H": np.array([1300.0, 2900.0, 3000.0])}


def run(shift: float = 0.0, temperature: float = 300.0, drift: float = 1e-5, diffusing: float = 0.0) -> Run:
    rows = np.array([broadened(lines + shift, GRID, 40.0) for lines in LINES.values()])
    rows[1] += diffusing * 2.0 * broadened(np.zeros(1), GRID, 6.0)
    return Run(Spectrum(GRID, rows, tuple(LINES), temperature), drift)


def modes(*more: float) -> Modes:
    return Modes(np.sort(np.concatenate([*LINES.values(), np.array(more)])), 1, 3, 0.0, 0.0)


def made(*runs: Run, **how: Any) -> PropertyResult:
    return vibrational_spectrum(runs, **{"temperature": 300.0, "resolution": 40.0, "highest": 3500.0, **how})


def test_means_errors_and_the_overlap_with_the_hessian() -> None:
    found = made(run(-10.0), run(10.0), modes=modes())
    q = found.quantities
    assert q["modes"].value == pytest.approx(6.0, rel=1e-3)
    assert q["mean wavenumber"].value == pytest.approx(np.mean(np.concatenate(list(LINES.values()))), abs=0.5)
    assert q["mean wavenumber"].uncertainty == pytest.approx(10.0, rel=0.02)
    assert 0.7 < q["overlap with the Hessian"].value < 1.0
    columns = found.curves["spectrum"].columns
    assert list(columns) == [
        "wavenumber [cm⁻¹]", "total [1/cm⁻¹]", "error of total [1/cm⁻¹]", "C [1/cm⁻¹]", "H [1/cm⁻¹]", "Hessian [1/cm⁻¹]"
    ]  # fmt: skip
    assert max(v or 0.0 for v in columns["wavenumber [cm⁻¹]"]) <= 3500.0
    assert found.notes == ()
    same = made(run(), run(), modes=modes())
    assert same.quantities["overlap with the Hessian"].value == pytest.approx(1.0, abs=1e-3)
    assert overlap(broadened(LINES["C"], GRID, 40.0), broadened(LINES["H"], GRID, 40.0), GRID) < 0.05


def test_what_the_reader_must_know_is_noted() -> None:
    found = made(
        run(temperature=220.0, drift=2e-3, diffusing=2.0), modes=modes(-30.0), failed=["the bond C1–H2 has broken"]
    )
    notes = " ".join(found.notes)
    for words in (
        "One run only", "drifts by 2 meV per atom", "at 220 K in the mean, 300 K is wanted", "modes lie below 40 cm⁻¹",
        "1 of 7 modes of the Hessian are imaginary", "Left out: 1 runs (the bond C1–H2 has broken)",
    ):  # fmt: skip
        assert words in notes
    assert found.quantities["mean wavenumber"].uncertainty is None
    assert "overlap with the Hessian" not in made(run(), run()).quantities


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(ScienceError, match="No run is left: too hot"):
        made(failed=["too hot"])
    still = Run(Spectrum(GRID, np.zeros((2, len(GRID))), ("C", "H"), 300.0), 0.0)
    with pytest.raises(ScienceError, match="Nothing moves below 3500"):
        made(still)


def test_figures() -> None:
    results = {"one": made(run(), run(5.0), modes=modes()), "other": made(run())}
    for images in (figure(results["one"], "one"), figure(results["other"], "other"), comparison(results, "all")):
        assert images["png"][:4] == b"\x89PNG"
