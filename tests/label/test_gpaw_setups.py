"""PAW data are looked up before anything runs."""

import pytest

from clusterflow.errors import InputError
from clusterflow.label.gpaw import GPAWReference
from clusterflow.label.gpaw_setups import check_datasets, setups_identity


def test_present():
    GPAWReference.quick().check_elements(["H", "C", "N", "O", "Zn", "Zr", "Hf"])
    GPAWReference.paper().check_elements(["H", "C", "N", "O", "Zn", "Zr", "Hf"])


def test_all_missing_elements_are_named():
    with pytest.raises(InputError, match=r"At \(At.PBE\), Pu \(Pu.PBE\)") as caught:
        check_datasets(["H", "Pu", "At"], "PBE", None)
    assert "GPAW_SETUP_PATH" in caught.value.where
    assert "xtb" in caught.value.todo


def test_missing_basis_and_unknown_names():
    with pytest.raises(InputError, match=r"H.qzp.basis"):
        check_datasets(["H"], "PBE", "qzp")
    check_datasets(["H"], "PBE", "szp(dzp)")
    with pytest.raises(InputError, match="'NotAFunctional'"):
        check_datasets(["H"], "NotAFunctional", None)


def test_identity_is_short_and_stable():
    version, setups = setups_identity()
    assert version.isdigit()
    assert setups
    assert setups_identity() == (version, setups)
