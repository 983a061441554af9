"""Which potential a property was computed with, of which level, and how good it is."""

from __future__ import annotations

import json
from pathlib import Path

from clusterflow.campaign.property_potential import calculator_facts, facts_line, facts_rows, model_facts
from clusterflow.config.potential import Calculator, Model

DOCUMENT = {
    "model_id": "0123456789abcdef",
    "kind": "nequip",
    "level_of_theory": "GPAW PBE",
    "elements": ["C", "H"],
    "training": {"metrics": {"val_force_mae_eV_per_A": 0.0123, "val_energy_mae_eV_per_atom": 0.001}},
}
METRICS = {
    "metrics": {
        "n_frames": 16,
        "forces": {"mae": 158.6, "rmse": 256.7, "mae_p": 816.9},
        "energy": {"mae": 3.94},
        "forces_by_element": {"C": {"mae": 237.4}, "H": {"mae": 119.7}},
    }
}


def test_the_model_of_a_campaign_comes_with_its_test_errors(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    (tmp_path / "config.json").write_text('{"name": "mof5"}')
    for given in (tmp_path, tmp_path / "model"):
        facts = model_facts(Model(folder=given), tmp_path / "model", DOCUMENT)
        assert facts["test"]["force_mae"] == 158.6
        rows = facts_rows(facts, "0123456789abcdef")
        assert rows["potential"] == "mof5 (NequIP)"
        assert rows["folder"] == str(given)
        assert rows["trained on"] == "GPAW PBE"
        assert rows["elements"] == "C, H"
        assert rows["its errors"] == (
            "force MAE 159 meV/Å (C 237, H 120), RMSE 257; energy MAE 3.9 meV/atom, on 16 test frames that were never "
            "trained on"
        )
    assert facts_line(facts, "0123456789abcdef").startswith("mof5 (NequIP), trained on GPAW PBE; force MAE 159 meV/Å")
    (tmp_path / "config.json").unlink()  # an export has no configuration
    assert model_facts(Model(folder=tmp_path), tmp_path / "model", DOCUMENT)["name"] == tmp_path.name


def test_a_model_alone_says_what_is_not_known(tmp_path: Path) -> None:
    facts = model_facts(Model(folder=tmp_path), tmp_path / "fit", DOCUMENT)
    assert (facts["name"], "test" in facts) == ("fit", False)
    assert facts_rows(facts, "")["its errors"] == (
        "force MAE 12 meV/Å on the frames that chose it (no test set is known)"
    )
    bare = model_facts(Model(folder=tmp_path), tmp_path / "fit", {"model_id": "x"})
    assert facts_rows(bare, "")["its errors"].startswith("not known")
    assert facts_rows(bare, "")["trained on"] == "level of theory not stated"
    for foreign in (
        "[broken",
        '{"metrics": [1, 2]}',
        '{"metrics": {"forces": {"rmse": 1}}}',
        '{"metrics": {"forces": [1]}}',
    ):
        (tmp_path / "metrics.json").write_text(foreign)
        assert model_facts(Model(folder=tmp_path), tmp_path / "model", DOCUMENT).get("test") is None


def test_an_ase_calculator_is_named_with_its_arguments() -> None:
    section = Calculator(calculator="tblite.ase:TBLite", arguments={"method": "GFN1-xTB", "accuracy": 0.1}, version="a")
    assert facts_rows(calculator_facts(section), "x") == {
        "potential": "ASE calculator tblite.ase:TBLite", "arguments": "method='GFN1-xTB', accuracy=0.1", "version": "a",
    }  # fmt: skip
    assert facts_line(calculator_facts(section), "identity") == "identity"
    assert facts_rows({}, "identity") == {"potential": "identity"}
