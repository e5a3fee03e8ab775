"""The page as a file: it is self-contained and has the numbers of the course."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest

from keras_course import play, randomness
from keras_course.datasets import lines
from keras_course.errors import CourseError
from keras_course.surfaces import SURFACES
from keras_course.update_rules import UPDATE_RULES


class Parts(HTMLParser):
    """Collects the text of inline scripts and styles, and every attribute."""

    def __init__(self, text):
        super().__init__()
        self.inside, self.inline, self.attributes = None, {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, name, value) for name, value in attributes]
        self.inside = (tag, dict(attributes).get("type")) if tag in ("style", "script") else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.inline[self.inside] = self.inline.get(self.inside, "") + data


@pytest.fixture(scope="module")
def parts():
    return Parts(play.page())


@pytest.fixture(scope="module")
def course(parts):
    return json.loads(parts.inline["script", "application/json"])


def test_the_policy_allows_only_the_script_and_the_style_of_the_page(parts):
    def hashed(element):
        digest = hashlib.sha256(parts.inline[element].encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    (policy,) = (value for tag, name, value in parts.attributes if tag == "meta" and "default-src" in value)
    assert dict(part.split(" ", 1) for part in policy.split("; ")) == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": hashed(("style", None)),
        "script-src": hashed(("script", "module")),
    }


def test_the_page_refers_to_no_other_file(parts):
    addresses = [value for _, name, value in parts.attributes if name in ("src", "href")]
    assert addresses == ["data:,"]
    # the XML namespace of SVG looks like an address and is none
    assert set(re.findall(r"\w+://[^\s\"']+", play.page())) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(eval|Function|innerHTML|import)\b\s*[(=]", play.page())


def test_the_page_is_the_same_each_time():
    assert play.page() == play.page()


def test_the_update_rules_equal_the_table(course):
    assert course["rules"] == {name: asdict(rule) for name, rule in UPDATE_RULES.items()}


@pytest.mark.parametrize("name", SURFACES)
def test_a_surface_has_the_settings_of_the_course(course, name):
    embedded, surface = course["surfaces"][name], SURFACES[name]
    for field in ("title", "formula"):
        assert embedded[field] == getattr(surface, field)
    for field in ("bounds", "start", "minima"):
        np.testing.assert_array_equal(embedded[field], getattr(surface, field))


@pytest.mark.parametrize(
    ("name", "start", "minimum", "points"),
    [("two_points", (-1, 5), (2, 1), 2), ("ten_points", (-2, 40), (5.121212, 14.454545), 10)],
)
def test_a_line_has_the_start_of_the_course_and_its_minimum(course, name, start, minimum, points):
    surface = course["surfaces"][name]
    left, right, bottom, top = surface["bounds"]
    assert surface["start"] == list(start)
    np.testing.assert_allclose(surface["minima"], [minimum], rtol=1e-6)
    for m, b in (start, minimum):
        assert left < m < right
        assert bottom < b < top
    np.testing.assert_array_equal([surface["data"]["x"], surface["data"]["y"]], lines.load_data(name))
    assert len(surface["data"]["x"]) == points


def test_every_surface_and_rule_of_the_course_is_on_the_page(course):
    assert list(course["surfaces"]) == [*lines.STARTS, *SURFACES]
    assert all(surface["learning_rate"] > 0 for surface in course["surfaces"].values())
    script = play.page()
    for name in (*UPDATE_RULES, *SURFACES):
        assert re.search(rf'^  {name}: ["{{]', script, re.MULTILINE), f"{name} has no text or no formula"


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**53 - 1])
def test_the_shuffle_constants_give_the_key_of_the_stream(course, seed):
    first, second = np.array(course["shuffle"], "int32")
    words = randomness.threefry_2x32((seed & 0xFFFFFFFF, seed >> 32), first[None], second[None])
    assert tuple(int(word[0]) & 0xFFFFFFFF for word in words) == randomness.stream_key(seed, "shuffle")


def test_write_page_replaces_an_old_page_and_creates_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "play.html").write_text("old")
    for path in ("play.html", "new/folder/play.HTML"):
        written = play.write_page(path)
        assert written == tmp_path / path
        assert written.read_text("utf-8") == play.page()
        assert [file.name for file in written.parent.iterdir() if file.is_file()] == [written.name]


@pytest.mark.parametrize("name", ["page", "page.txt", "folder.html", ""])
def test_write_page_refuses_a_name_that_is_no_html_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(CourseError, match=re.escape(f"output is {name!r}; give the name of a file")):
        play.write_page(name)


def test_play_imports_neither_keras_nor_matplotlib():
    code = "import sys; from keras_course.play import page; page(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"keras", "matplotlib", "jax", "torch", "tensorflow"}.isdisjoint(done.stdout.split())
