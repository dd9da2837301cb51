"""The page: complete in itself, safe with hostile words, and true to its numbers."""

import base64
import html.parser
import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import simplejpeg
from avc_fixtures import SHORT_RUN, TINY, corresponding, written
from browser import browsing
from PIL import Image

from training.estimates import Estimate
from training.evaluation import evaluate_all
from training.evaluation.correspondence import answer
from training.loop import train
from training.models import load_model
from training.report.page import ReportInputs, figures, funnel_rows, write_report

HOSTILE = '<script>alert("x")</script> & "quoted"'
FUNNEL = {
    "segments": 100,
    "in_shards": 90,
    "quarantined": {"too_quiet": 4},
    "unavailable": {"private": 3},
    "waiting": {},
    "forgotten": 3,
}


class Page(html.parser.HTMLParser):
    """The tags of a page, with their attributes, and its balance."""

    VOID = {"meta", "img", "br", "link", "input"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def inputs(dataset, trained, tmp_path_factory):
    model = load_model(trained)
    history = list(train(dataset, "contrastive", TINY, SHORT_RUN, tmp_path_factory.mktemp("again")))
    return ReportInputs(
        evaluate_all(model, dataset),
        history,
        FUNNEL,
        {"dataset version": dataset.version.digest, "note": HOSTILE},
        title=HOSTILE,
        with_media=True,
        model=model,
        dataset=dataset,
        group_names={"/kind/1": HOSTILE},
    )


@pytest.fixture(scope="module")
def page(inputs, tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("page") / "report.html", inputs).read_text()


def test_the_page_needs_nothing_from_outside(page):
    for tag, attributes in Page(page).tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    assert not re.search(r"https?://|@import|url\(", page)
    assert not Page(page).open


def test_words_of_strangers_are_escaped(page):
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp;") >= 3  # title, note, group


def test_media_are_playable_and_visible(page):
    tags = Page(page).tags
    sounds = [attributes["src"] for tag, attributes in tags if tag == "audio"]
    images = [attributes["src"] for tag, attributes in tags if tag == "img"]

    assert len(sounds) >= 4 + 4 * 5 + 4 and all(s.startswith("data:audio/wav;base64,UklGR") for s in sounds)
    assert all(i.startswith(("data:image/jpeg;base64,/9j/", "data:image/png;base64,iVBOR")) for i in images)
    assert len(page) < 6_000_000


def test_without_media_the_page_holds_none_and_says_so(inputs, tmp_path):
    text = write_report(tmp_path / "bare.html", replace(inputs, with_media=False)).read_text()

    assert "data:" not in text and "without media" in text
    with pytest.raises(ValueError, match="with_media"):
        write_report(tmp_path / "bare.html", replace(inputs, model=None))


def test_the_page_shows_its_numbers(inputs, page):
    auc = inputs.results["correspondence"].random.auc

    assert f"{100 * auc.value:.1f} %" in page
    assert f"{100 * auc.low:.1f} % – {100 * auc.high:.1f} %" in page
    assert inputs.dataset.version.digest in page
    assert page.count('class="curves"') == 2 and 'class="gap"' in page


def test_on_a_phone_the_scores_stand_in_low_rows_with_their_values_in_sight(page, chromium, tmp_path):
    (tmp_path / "report.html").write_text(page)
    with browsing(chromium) as shown:
        shown.call(
            "Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=False
        )
        shown.open((tmp_path / "report.html").as_uri())
        shown.await_text("Accuracy, random")
        rows = "[...document.querySelectorAll('tr:has(.bar)')]"
        tallest = shown.value(f"Math.max(...{rows}.map(row => row.getBoundingClientRect().height))")
        value_ends = f"{rows}.map(row => row.querySelector('.strong').getBoundingClientRect().right)"

        assert tallest < 90
        assert shown.value(f"Math.max(...{value_ends})") < 390
        assert shown.value("document.documentElement.scrollWidth") <= 390


def test_no_tick_of_an_axis_is_a_negative_zero():
    svg = figures.curves([(0.0, 0.0), (1.0, 3.0)], [], None, "Loss")

    assert ">0</text>" in svg and "-0<" not in svg


def test_the_answer_says_no_where_the_interval_holds_chance(inputs):
    def told(low):
        result = inputs.results["correspondence"]
        scores = replace(result.random, accuracy=Estimate(0.6, low, 0.7, 0.5))
        return answer(replace(result, num_videos=12, random=scores))

    assert told(0.55).startswith("Yes, better than chance: on 12 videos") and "60.0 %" in told(0.55)
    assert told(0.45).startswith("No better than chance")


def test_the_funnel_adds_up():
    rows = funnel_rows(FUNNEL)

    assert rows[0][2] == sum(count for _, _, count, _ in rows[1:])
    assert ("quarantined: too_quiet", "rejected by an expectation", 4, 0.04) in rows


def test_an_evaluation_without_pairs_of_one_group_is_shown_too(tmp_path, trained):
    clips = corresponding({"train": 2, "val": 2, "eval": 4})  # four kinds, one clip of each
    dataset = written(tmp_path, clips)
    model = load_model(trained)
    inputs = ReportInputs(
        evaluate_all(model, dataset), [], FUNNEL, {},
        with_media=True, model=model, dataset=dataset,
    )  # fmt: skip

    text = write_report(tmp_path / "few.html", inputs).read_text()

    assert "Accuracy, same group" not in text and "no curve" in text
    assert "Accuracy, random" in text


def test_a_png_holds_its_pixels():

    pixels = np.random.default_rng(0).integers(0, 255, (7, 5, 3)).astype(np.uint8)

    content = base64.b64decode(figures.png_uri(pixels).partition(",")[2])
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(content))), pixels)


def test_heat_is_where_the_map_is_high():
    frame = np.full((56, 56, 3), 128, np.uint8)
    heat = np.zeros((7, 7))
    heat[1, 5] = 1.0

    drawn = figures.heat_over(frame, heat, 0.0, 1.0).astype(int)

    redness = drawn[..., 0] - drawn[..., 2]
    assert np.unravel_index(redness.argmax(), redness.shape) == pytest.approx((12, 44), abs=4)
    assert redness[40:, :20].max() <= 0


def test_jpegs_keep_their_shape():

    content = base64.b64decode(figures.jpeg_uri(np.zeros((16, 24, 3), np.uint8)).partition(",")[2])

    assert simplejpeg.decode_jpeg(content).shape == (16, 24, 3)
