"""The report: right numbers, nothing foreign runs, nothing is fetched, and a real browser agrees."""

import html.parser
import re

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="memkern[audit] is not installed")
pytest.importorskip("scipy", reason="memkern[audit] is not installed")
pytest.importorskip("jinja2", reason="memkern[audit] is not installed")
pytest.importorskip("PIL", reason="memkern[audit] is not installed")

import audit_runs
import browser

from memkern import cli
from memkern.audit.report import MAX_BYTES, report, write_report
from memkern.audit.report import charts as draw
from memkern.audit.report.control import CANNOT_TELL
from memkern.audit.report.gallery import PNG, Thumbs
from memkern.audit.report.svg import ticks
from memkern.audit.report.text import clean, signed
from memkern.audit.report.verdict import verdict
from memkern.audit.run_folder.arrays import read_arrays

HOSTILE = [
    "<script>alert(1)</script>.png",
    "\"><img src=https://evil.example/x.png onerror='alert(2)'>.png",
    "photo\u202egnp.exe",
    "a" * 3000 + ".png",
    "</style></svg><b>{{ 7 * 7 }}</b>.png",
    "tab\tnew\nline\x00\x1b[31m.png",
    "&amp;&lt;.png",
    "صورة ‏שלום.png",
]


class Page(html.parser.HTMLParser):
    """The elements, attributes and texts of a document, as a parser sees them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return audit_runs.write(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(run):
    return Page(report(run))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    ids = [f"{HOSTILE[i % len(HOSTILE)]}{i}" for i in range(60)]
    layers = {"<b>conv</b>": 4, '"onload=alert(3) x="': 4, "{{ output }}" + "x" * 500: 4}
    manifest = {"encoder": "<svg onload=alert(4)>", "reference": "\u202ereference"}
    return audit_runs.write(tmp_path_factory.mktemp("hostile"), ids=ids, classes=HOSTILE[:3], layers=layers, **manifest)


# ---- what it says ---------------------------------------------------------------------------------------------------


def test_every_part_is_there(page):
    for part in ("scope", "layers", "images", "units", "consistency", "duplicates", "method", "provenance"):
        assert part in page.values("id")
        assert f"#{part}" in page.values("href"), "the table of contents leads to it"
    assert not page.open, "every element is closed"
    assert page.tags.count("h1") == 1
    for words in (
        CANNOT_TELL,
        "relative to this reference encoder",
        "arXiv 2409.19069",
        "seed 0",
        "They need a control",
    ):
        assert words in page.text, words
    assert "c" * 64 not in page.text, "the list's digest stays in the manifest"
    assert "b" * 64 in page.text, "the weights' digest is provenance"


def test_the_numbers_are_those_of_the_tables(run, page):
    data = read_arrays(run)
    mean = data.sslmem[data.scored].mean()
    assert f"{signed(mean)} mean SSLMem" in page.text
    best = int(np.nanargmax(data.scored_column("delta")))
    assert f"rises most at {list(audit_runs.LAYERS)[best]}" in page.text
    for name, value in zip(data.layers["layer"], data.scored_column("layermem"), strict=True):
        assert f"{name} {value:.3f}" in page.text
    top = data.scored[np.argmax(data.sslmem[data.scored])]
    assert f"Highest SSLMem 1 {signed(data.ratio['output'][top])}" in page.text
    assert f"SSLMem {signed(data.sslmem[top])} class" in page.text, "the raw difference, without an error or a p"


def test_an_audit_without_a_control_says_nothing_of_memorization(tmp_path):
    """However strong the scores are: an encoder that is merely tighter gives the same ones."""
    for name in (True, False):
        run = audit_runs.write(tmp_path / str(name), strength=0.9, name_candidates=name, thumbs=False)
        found = verdict(read_arrays(run))
        assert (found.level, found.headline) == ("untold", CANNOT_TELL)
        assert "memoriz" not in " ".join([*found.sentences, *(part for fact in found.facts for part in fact)])


def test_without_candidates_it_says_what_the_mean_is_over(tmp_path):
    run = audit_runs.write(tmp_path, name_candidates=False, thumbs=False)
    found = verdict(read_arrays(run))
    assert any("--candidates" in sentence for sentence in found.sentences)
    assert "other images" not in Page(report(run)).values("aria-label")


def test_without_reference_it_says_why(tmp_path):
    run = audit_runs.write(tmp_path, reference=False)
    page = Page(report(run))
    assert "not measured: there is no reference encoder" in page.text
    assert "LayerMem needs a reference encoder" in page.text
    assert "Images that hold the peaks" in page.text
    assert "nan" not in page.text.lower().split()
    assert "layers" in page.values("id")
    assert "#layers" in page.values("href")


def test_without_labels_and_without_thumbnails(tmp_path):
    text = report(audit_runs.write(tmp_path, labels=False, thumbs=False))
    page = Page(text)
    assert "ClassMem is" not in page.text
    assert "kept no thumbnails" in page.text
    assert "img" not in page.tags


def test_one_layer_few_images_and_undefined_units(tmp_path):
    run = audit_runs.write(tmp_path / "tiny", n=4, layers={"only": 2}, thumbs=False, data={"duplicates": []})
    page = Page(report(run))
    assert "No copies" in page.text
    assert "nan" not in re.findall(r"[a-z]+", page.text.lower())


def test_no_images_means_no_pixel(run, tmp_path, capsys):
    out = tmp_path / "deep" / "page.html"
    assert cli.main(["report", str(run.folder), "--no-images", "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    page = Page(out.read_text(encoding="utf-8"))
    assert "img" not in page.tags
    assert "data:image" not in out.read_text(encoding="utf-8")
    assert "left out of this report on request" in page.text
    assert not (run.folder / "report.html").exists()


# ---- foreign text and size ------------------------------------------------------------------------------------------


def test_hostile_names_are_only_text(hostile):
    text = report(hostile)
    page = Page(text)
    assert not page.open, "nothing was opened or closed by a name"
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/png;base64,") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href"))
    assert "49" not in page.text.split(), "names are no templates"
    for name in ("\u202e", "\x1b", "\x00"):
        assert name not in text
    assert "<script>alert(1)</script>" in page.text, "shown as it is"
    assert "\\u202e" in page.text
    assert "a" * 400 not in text
    assert max(map(len, page.values("title"))) <= 300


def test_the_page_forbids_scripts_and_requests(run, page):
    policy = next(value for value in page.values("content") if "default-src" in value)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\(", report(run))


def test_the_report_stays_small(tmp_path):
    run = audit_runs.write(tmp_path)
    for path in (run.folder / "thumbs").iterdir():
        path.write_bytes(PNG + bytes(200_000))
    path = write_report(run)
    assert path == run.folder / "report.html"
    assert path.stat().st_size < MAX_BYTES
    assert re.search(r"\d+ pictures were left out", path.read_text(encoding="utf-8"))


def test_only_png_files_are_taken(run, tmp_path):
    (tmp_path / "thumbs").mkdir()
    (tmp_path / "thumbs" / "0.png").write_bytes(b"<svg onload=alert(1)>")
    assert Thumbs(tmp_path).get("0.png") == ""
    assert Thumbs(tmp_path).get("1.png") == ""


# ---- seeing ----------------------------------------------------------------------------------------------------------


def test_ticks_and_cleaning_by_hand():
    assert ticks(0.1, 0.78, 3) == [0.25, 0.5, 0.75]
    assert ticks(-1.0, 1.0) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert ticks(3.0, 3.0) == [3.0]
    assert clean("a\u200bb") == "a\\u200bb"
    assert len(clean("x" * 999, 40)) == 40
    assert [signed(value) for value in (0.0004, -0.0004, -0.25, float("nan"))] == ["0.000", "0.000", "−0.250", "–"]


def themes():
    """The custom properties of light, dark and print."""
    from importlib.resources import files

    style = (files("memkern.audit.report") / "style.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    return [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in blocks]


def contrast(a, b):
    light, dark = sorted((draw.luminance_of(tuple(bytes.fromhex(color[1:]))) for color in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark", "print"])
def test_colors_have_contrast(theme):
    """WCAG 2 AA: 4.5 for text, 3 for marks that carry meaning."""
    for paper in ("page", "panel"):
        for ink in ("ink", "muted", "link", "warn"):
            assert contrast(theme[ink], theme[paper]) >= 4.5, (ink, paper)
        for mark in ("scored", "others", "outline", "best", "memorized", "untold", "none"):
            assert contrast(theme[mark], theme[paper]) >= 3, (mark, paper)
    assert contrast(theme["ink"], theme["faint"]) >= 4.5


def test_numbers_in_the_matrix_can_be_read():
    for value in np.linspace(-0.2, 1, 50):
        fill, ink = draw._shade(float(value))
        assert contrast(fill, {"dark": "#000000", "light": "#ffffff"}[ink]) >= 4.5, value


def test_every_picture_has_an_alternative(page):
    assert page.tags.count("img") == len(
        [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    )
    assert page.tags.count("svg") == len(page.values("aria-label")) - page.values("role").count("region") - 1  # nav
    assert all(page.values("alt"))
    assert any("adds most" in label for label in page.values("aria-label"))


# ---- a real browser --------------------------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(browser.PATH is None, reason=browser.REASON)


@needs_browser
def test_a_browser_finds_nothing_to_complain_about(hostile, tmp_path):
    path = write_report(hostile, out=tmp_path / "report.html")
    seen = browser.visit(path, tmp_path)
    assert "Memorization audit" in seen.dom
    assert seen.console() == []
    dom = Page(re.sub(r"^.*?<html", "<html", seen.dom, flags=re.DOTALL))
    assert "script" not in dom.tags
    assert len(dom.values("aria-label")) == len(Page(report(hostile)).values("aria-label"))


@needs_browser
def test_the_browser_check_can_fail(tmp_path):
    """A page that asks the network and runs a script is noticed."""
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='http://memkern.invalid/x.png'><script>throw Error('noticed')</script>", encoding="utf-8")
    seen = browser.visit(bad, tmp_path)
    assert any("noticed" in line for line in seen.console())


@needs_browser
@pytest.mark.parametrize("width", [390, 1000])
def test_nothing_sticks_out_and_both_schemes_differ(run, tmp_path, width):
    """Screenshots: the right edge of the page is empty, dark is dark, light is light."""
    from PIL import Image

    path = write_report(run, out=tmp_path / "report.html")
    for scheme, bright in ((browser.LIGHT, True), (browser.DARK, False)):
        picture = tmp_path / f"{scheme}.png"
        browser.visit(path, tmp_path, width=width, height=3000, scheme=scheme, picture=picture)
        pixels = np.asarray(Image.open(picture).convert("L"))[:, :width]
        assert (np.median(pixels) > 200) == bright
        edge = pixels[:, width - 8 :]
        assert (np.abs(edge.astype(int) - int(edge[0, 0])) < 40).all(), "something sticks out at the right"
