"""The report as a page: well formed, self-contained, escaped, and alive in a browser where there is one."""

import dataclasses
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from clusterflow.errors import StateError
from clusterflow.evaluate.report import ReportData, render_report, report_data_from_json
from clusterflow.evaluate.report.calibration_data import CalibrationView, ReliabilityView
from clusterflow.evaluate.report.data import Citation, FailureRow, PotentialFiles, RampRow, StructureView, WalkerRow
from clusterflow.evaluate.report.render import render_html

HOSTILE = """</script><script>document.title='owned'</script><img src=x onerror="alert(1)">'"&"""
SECTIONS = (
    "learning", "parity", "errors", "novelty", "correlation", "calibration", "features", "in3d", "ramp", "walkers",
    "fragments", "failures", "timings", "workers", "settings", "environment", "usage", "citations",
)  # fmt: skip
VOID = {"meta", "br", "img", "input", "hr", "link"}


class Page(HTMLParser):
    """Checks nesting while it reads and notes what a test may ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.resources, self.links, self.anchors, self.tags = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert not any(name.startswith("on") for name in values), f"inline handler in <{tag}>"
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        if tag == "a":
            (self.anchors if values["href"].startswith("#") else self.links).append(values["href"])
        else:
            self.resources += [values[n] for n in ("src", "href", "xlink:href", "srcset", "data") if n in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def hostile(example):
    return dataclasses.replace(
        example,
        campaign=HOSTILE,
        reason=HOSTILE,
        level_of_theory=HOSTILE,
        config_text=HOSTILE,
        settings={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE},
        walkers=(WalkerRow(1, HOSTILE, HOSTILE, stop_reason=HOSTILE),),
        ramp=(RampRow(1, 100.0, 1, 1, 0, HOSTILE, HOSTILE),),
        failures=(FailureRow(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        fragments=(StructureView(HOSTILE, (HOSTILE,), ((0.0, 0.0, 0.0),), ("core",), kind=HOSTILE, status=HOSTILE),),
        structures=(StructureView(HOSTILE, (HOSTILE,), ((0.0, 0.0, 0.0),), scalars={HOSTILE: (1.0,)}),),
        potential=PotentialFiles(HOSTILE, HOSTILE, (HOSTILE,), files={HOSTILE: HOSTILE}),
        citations=(Citation(HOSTILE, "javascript:alert(1)"), Citation("fine", f"https://example.org/{HOSTILE}")),
        feature_maps=tuple(dataclasses.replace(m, element=HOSTILE) for m in example.feature_maps[:1]),
        calibrations=(CalibrationView(1, alarms=(HOSTILE,), elements=(ReliabilityView(HOSTILE, 3),)),),
        novelty=tuple(dataclasses.replace(h, element=HOSTILE) for h in example.novelty[:1]),
    )


@pytest.mark.parametrize("kind", ["full", "empty", "hostile"])
def test_page_is_well_formed_and_loads_nothing(example_report, kind):
    data = {"full": example_report, "empty": ReportData("fresh"), "hostile": hostile(example_report)}[kind]
    text = render_html(data)
    page = Page(text)
    assert page.resources == []
    assert "@import" not in text
    assert "url(" not in text
    assert len(page.ids) == len(set(page.ids))
    sections = [s for s in SECTIONS if data.ramp or s != "ramp"]
    assert [i for i in page.ids if i in SECTIONS] == sections
    assert page.anchors == [f"#{s}" for s in sections]
    assert all(link.startswith("https://") for link in page.links)
    assert page.tags.count("section") == len(sections)
    assert "nan" not in re.sub(r"<style>.*?</style>|<script.*?</script>", "", text, flags=re.S).lower().split()
    assert "None" not in re.sub(r"<[^>]*>|None\.", "", re.sub(r"<script.*?</script>", "", text, flags=re.S))


def test_hostile_names_stay_text(example_report):
    text = render_html(hostile(example_report))
    page = Page(text)
    assert "img" not in page.tags
    assert page.tags.count("script") == 4
    assert "<script>document.title" not in text
    payload = re.search(r'<script type="application/json" id="gallery-data">(.*?)</script>', text, re.S).group(1)
    assert json.loads(payload)[0]["s"] == [HOSTILE]
    assert not any("javascript" in link for link in page.links)


def test_every_part_is_there(example_report):
    text = render_html(example_report)
    for expected in (
        "MOF-5 with missing linkers", "finished", "MAE_P95", "60 % lower", "1 of 27 failed", "Zn, iteration 2",
        "mof5, missing linker", "termination", "H–O 0.61 Å apart", "did not converge", "load_potential",
        "arxiv.org/abs/2504.03881", "[meV/Å]", "[meV/atom]", "[nats]", "[K]", "[GPa]", "[MB]", "5 of 8 walkers blew up",
    ):  # fmt: skip
        assert expected in text, expected
    assert text.count("<svg") == 2 + 4 + 4 + 2 + 10 + 2 + 8 + 4 + 3 + 1


def test_a_campaign_without_a_model_says_so():
    text = render_html(ReportData("fresh"))
    assert text.count("Not yet") >= 9
    assert "<svg" not in text


def test_one_model_and_no_reference_to_a_first_one(example_report):
    data = dataclasses.replace(example_report, models=example_report.models[:1], learning=example_report.learning[:1])
    text = render_html(data)
    assert "the first model" not in text
    assert "lower than" not in text


def test_equal_data_equal_page_also_through_json(example_report):
    data = json.loads(json.dumps(example_report.to_json(), allow_nan=False))
    assert report_data_from_json(data) == example_report
    assert render_html(report_data_from_json(data)) == render_html(example_report)


def test_a_large_campaign_stays_small(make_example):
    big = make_example(iterations=16, fragments=150)
    text = render_html(dataclasses.replace(big, walkers=big.walkers * 20))
    assert len(text.encode()) < 5e6
    assert "more rows are in the journal" in text
    Page(text)


def test_writing_replaces_the_old_file_and_leaves_nothing_else(tmp_path, example_report):
    path = tmp_path / "report.html"
    path.write_text("old")
    render_report(example_report, path)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(StateError, match="cannot be written"):
        render_report(example_report, tmp_path / "missing" / "report.html")


def browser():
    found = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if found is None:
        pytest.skip("no chromium on this machine: the page was not opened in a browser")
    return found


def opened(page, profile):
    """What a browser makes of a page; no console message is tolerated."""
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--log-level=0",
               f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom", page]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return done.stdout


@pytest.mark.parametrize("kind", ["full", "empty", "hostile"])
def test_opens_in_a_browser_without_a_console_message(tmp_path, example_report, kind):
    data = {"full": example_report, "empty": ReportData("fresh"), "hostile": hostile(example_report)}[kind]
    render_report(data, tmp_path / "report.html")
    page = opened((tmp_path / "report.html").as_uri(), tmp_path / "profile")
    assert "<title>owned" not in page
    if kind == "full":
        # A viewer shows itself and fills its legend only when its script has drawn.
        assert not re.search(r'class="viewer"[^>]* hidden', page)
        structures, gallery = re.findall(r'class="legend colours">(.*?)</p>', page, re.S)
        assert "mantle" in gallery
        assert "force error [meV/Å]: 0.00" in structures
        assert page.count(">CSV</button>") == page.count("<table")
        assert page.count(">PNG</button>") == page.count("<figure>")


def test_a_point_of_the_feature_map_leads_to_its_atom(tmp_path, example_report):
    text = render_html(example_report)
    linked = [json.loads(unescape(p)) for p in re.findall(r'data-points="(.*?)"', text)]
    assert linked
    assert {(s, a) for points in linked for _, _, s, a in points} <= {(3, k) for k in range(8)}
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    page = opened((tmp_path / "report.html").as_uri() + "#structures/3/5", tmp_path / "profile")
    pointed = re.search(r'class="note pointed"[^>]*>(.*?)</p>', page, re.S).group(1)
    assert pointed == "Cu, atom 5, novelty [nats]: 5.00, selected"


def test_tables_and_figures_can_be_saved(tmp_path, example_report):
    """Presses every button in a page whose links note what they would save."""
    press = """<script>
    const saved = [];
    HTMLAnchorElement.prototype.click = function () { saved.push([this.download, decodeURIComponent(this.href)]); };
    document.querySelectorAll(".downloads button").forEach((b) => b.click());
    setTimeout(() => {
      const out = document.createElement("output");
      out.textContent = JSON.stringify(saved);
      document.body.append(out);
    }, 2000);
    </script>"""
    text = render_html(example_report).replace("</body>", press + "</body>")
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    page = opened((tmp_path / "report.html").as_uri(), tmp_path / "profile")
    saved = dict(json.loads(unescape(re.search(r"<output>(.*)</output>", page, re.S).group(1))))
    kinds = [name.rsplit(".", 1)[1] for name in saved]
    panels = text.count("<svg")
    assert (kinds.count("csv"), kinds.count("svg"), kinds.count("png")) == (text.count("<table"), panels, panels)
    curve = next(v for k, v in saved.items() if k.startswith("learning-") and k.endswith(".csv"))
    rows = curve.split(",", 1)[1].splitlines()
    assert rows[0].startswith('"iteration","labels"')
    assert len(rows) == 1 + len(example_report.learning)
    for name, content in saved.items():
        if name.endswith(".svg"):
            drawn = ElementTree.fromstring(content.split(",", 1)[1])
            assert drawn.tag.endswith("svg"), name
            assert "var(" not in content
        if name.endswith(".png"):
            assert content.startswith("data:image/png;base64,iVBOR"), name
            assert len(content) > 5000
