"""The model card says what it knows, and that it does not know the rest; it cites what was used."""

from __future__ import annotations

from clusterflow.exchange.citations import citations
from clusterflow.exchange.model_card import ModelCard, SystemCard, model_card


def cited(*told: object) -> str:
    return " ".join(f"{reason}: {text}" for reason, text in citations(*told))  # type: ignore[arg-type]


def test_nothing_is_left_out_in_silence() -> None:
    card = model_card(ModelCard("x", "linear", "abc", ("H",), ""))
    assert "| level of theory of the labels | not stated |" in card
    assert "| licence of the potential | not stated |" in card
    for section in ("Training data", "Errors", "Where it was sampled", "How it was made", "How to cite"):
        assert f"## {section}" in card
    assert card.count("not stated") >= 6
    assert "None" not in card


def test_ranges_and_blow_ups() -> None:
    systems = (
        SystemCard("a", ("CH4",), {"train": 2}, {"train": 10}, "file", "MIT", (300.0, 600.0), (-1.5, 1.5), 8, 2, 450.0),
        SystemCard("b", temperatures=(300.0, 300.0), walks=1),
        SystemCard("c", walks=3, stopped=3, stopped_from=100.0),
        SystemCard("d", ("A", "B", "C", "D", "E", "F|G")),
    )
    card = model_card(ModelCard("x", "nequip", "abc", ("H",), "PBE", systems=systems, noise="3 meV/Å"))
    assert "| a | 300 to 600 K | -1.5 to 1.5 GPa | 8 | 2, at 450 K or more |" in card
    assert "| b | 300 K | constant volume | 1 | 0 |" in card
    assert "| c | none did |  | 3 | 3, at 100 K or more |" in card
    assert "A, B, C, D and 2 more" in card
    assert "| all |  | 2 frames, 10 atoms |" in card
    assert "Noise of the labels: 3 meV/Å." in card


def test_what_was_used_is_cited_and_nothing_else() -> None:
    dft = cited(
        "nequip", {"extract": {"kind": "certified"}, "score": {"kind": "gmm"}, "explore": {}}, "GPAW PBE-D3(BJ) fd"
    )
    for doi in ("10.1063/5.0182685", "10.1002/jcc.21759", "10.1016/j.softx.2017.11.002", "10.1038/s41467-022-29939-5",
                "10.1063/5.0082952", "10.1039/d2cp05976b", "2211.09866", "2504.03881"):  # fmt: skip
        assert doi in dft
    assert "10.1038/s41524-024-01427-y" not in dft
    assert "jctc.7b00118" not in dft
    ramp = {"explore": {"kind": "ase", "temperature": {"first": "100 K"}}, "select": {"kind": "cbad"}}
    sharma = cited("linear", ramp, "GFN2-xTB")
    assert "temperature ramp and the choice of frames by empty bins: A. Sharma" in sharma
    assert "10.1021/acs.jctc.8b01176" in sharma
    assert "10.1021/acs.jpcb.3c06662" not in sharma  # no OpenMM
    assert "2504.03881" not in cited("nequip", {}, "")
