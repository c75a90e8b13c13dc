"""The folder of a site: what a static Space and GitHub Pages need, and what strangers see first."""

from pathlib import Path

import pytest
import yaml
from support.web.boards import board_of
from support.web.browsers import Opened

from leaderboard import Leaderboard
from leaderboard.models.published import published_layers
from leaderboard.report.site.published import published_section
from midlayer_embed.errors import InputError

_ABOUT = "Runs <b>of</b> [ours](x)."


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five models, two of them with a single task, which are four sets of tasks."""
    folder = tmp_path_factory.mktemp("site") / "new"
    names = ["org/a", "org/b", "org/c", "org/d", "org/e"]
    board = board_of(names, ["A", "B", "C"], 5, ("dime", "curvature"))
    tasks = dict(zip(names, (["A", "B", "C"], ["A", "B"], ["B", "C"], ["A"], ["B"]), strict=True))
    scores = board.scores.filter([row["task"] in tasks[row["model"]] for row in board.scores.iter_rows(named=True)])
    Leaderboard(scores, board.metrics).to_site(folder, about=_ABOUT, sections=[published_section()])
    return folder


def test_a_site_has_what_a_space_and_pages_need(site: Path) -> None:
    assert {path.name for path in site.iterdir()} == {"index.html", "README.md", ".nojekyll", "score_over_depth.png"}
    _, front_matter, text = (site / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    config = yaml.safe_load(front_matter)
    assert (config["sdk"], config["app_file"], config["license"]) == ("static", "index.html", "apache-2.0")
    assert config["title"] and config["emoji"] and len(config["short_description"]) <= 60
    assert "](score_over_depth.png)" in text and "5 models on 3 tasks" in text
    assert "Runs &lt;b&gt;of&lt;/b&gt; \\[ours\\](x)." in text


def test_a_site_is_written_again_but_replaces_no_other_readme(site: Path, tmp_path: Path) -> None:
    board = board_of(["org/m"], ["A"], 3, ())
    (tmp_path / "README.md").write_text("# My project\n")
    with pytest.raises(InputError, match=r"has a README.md of its own; expected a folder for nothing but the site"):
        board.to_site(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# My project\n" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "README.md").write_bytes((site / "README.md").read_bytes())
    board.to_site(tmp_path)
    assert "1 model on 1 task:" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_there_is_no_site_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no scores"):
        Leaderboard.empty().to_site(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_strangers_are_told_what_they_see_on_a_phone(site: Path, opened: Opened) -> None:
    page = opened(site / "index.html", width=390)
    front = page.locator(".front")
    assert front.inner_text().endswith(_ABOUT) and "5 models on 3 tasks" in front.inner_text()
    links = page.locator("nav a")
    assert links.all_inner_texts() == ["Code", "Documentation", "Paper"]
    assert links.last.is_visible() and links.last.bounding_box()["y"] < 800
    assert page.locator("meta[name=description]").get_attribute("content") == front.inner_text()
    # Three sets of several tasks are told at once, single tasks on demand.
    assert [one.split(":")[0] for one in page.locator("header h2:visible").all_inner_texts()] == [
        "3 tasks",
        *["2 tasks"] * 2,
    ]
    page.get_by_text("Models with a single task").click()
    assert page.locator("header h2:visible").count() == 5
    assert page.locator("#published-hint").is_visible()  # its table is wider than the screen
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_published_section_is_the_file(site: Path) -> None:
    section = published_section()
    first = next(reversed(published_layers().values()))
    assert len(section.rows) == len(published_layers())
    assert section.rows[0][:3] == (first.name, str(first.layer), str(first.n_blocks))
    assert section.rows[0][4:6] == (f"{first.best:.1f}", f"{first.last:.1f}")
    assert first.source in section.note and 'id="published"' in (site / "index.html").read_text(encoding="utf-8")
