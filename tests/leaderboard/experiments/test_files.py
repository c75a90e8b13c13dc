"""What an experiment writes: its table, its figure, and a page with a section for each experiment of the folder."""

from pathlib import Path

import polars as pl
import pytest

from leaderboard.experiments.files import read, save, sections_of
from leaderboard.experiments.names import EXPERIMENTS, OPTIONS, find_experiment
from midlayer_embed.errors import InputError

_EVIL = "org/<script>alert(1)</script>"


@pytest.fixture
def table() -> pl.DataFrame:
    rows = [
        (_EVIL, "main", site, layer, layer / 4, "effective_rank", "raw", layer + place, 7, False, 64, 0)
        for place, site in enumerate(("resid_post", "mlp_out"))
        for layer in range(1, 5)
    ]
    names = ["model", "revision", "site", "layer", "depth", "metric", "normalization", "value"]
    settings = ["n_texts", "final_norm", "max_seq_length", "seed"]
    return pl.DataFrame(rows, schema=[*names, *settings], orient="row")


def test_files_and_page_of_an_experiment(table: pl.DataFrame, tmp_path: Path) -> None:
    files = save(table, EXPERIMENTS["sublayers"], tmp_path / "out")
    assert [path.name for path in files] == ["sublayers.parquet", "sublayers.png", "sublayers.svg", "index.html"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in files)
    assert read(tmp_path / "out")["sublayers"].equals(table)
    assert (tmp_path / "out/sublayers.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "The paper (Figure 15)" in page and 'id="sublayers"' in page
    assert "7 texts, raw states, at most 64 tokens of each, seed 0" in page
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page  # a name is text
    assert "http" not in page.replace("http-equiv", "")  # nothing is fetched


def test_a_page_has_a_section_for_each_experiment_of_the_folder(table: pl.DataFrame, tmp_path: Path) -> None:
    save(table, EXPERIMENTS["sublayers"], tmp_path)
    assert [section.anchor for section in sections_of(tmp_path)] == ["sublayers"]
    other = table.drop("site").with_columns(p=0.5)
    save(pl.concat([other, other.with_columns(p=0.0)]), EXPERIMENTS["repetition"], tmp_path)
    assert [section.anchor for section in sections_of(tmp_path)] == ["repetition", "sublayers"]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.index('id="repetition"') < page.index('id="sublayers"')


def test_the_words_of_the_numbers_stand_at_the_left(table: pl.DataFrame, tmp_path: Path) -> None:
    save(table, EXPERIMENTS["sublayers"], tmp_path)
    (section,) = sections_of(tmp_path)
    assert section.columns[: section.n_names] == ["metric", "site"]  # the one model is in the title
    assert _EVIL in section.caption
    assert section.picture.startswith("data:image/svg+xml;base64,")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "expected a folder that `experiment` wrote"), ("", "has no table"), ("x", "cannot be read")],
)
def test_folders_without_experiments(content: str | None, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    if content is not None:
        folder.mkdir()
    if content:
        (folder / "sublayers.parquet").write_text(content)
    with pytest.raises(InputError, match=said):
        read(folder)


def test_every_experiment_says_what_it_needs() -> None:
    for name, one in EXPERIMENTS.items():
        assert callable(one.part()) and callable(one.part("draw_")) and callable(one.part("summary_"))
        assert one.part().__name__ == name and set(one.takes) <= set(OPTIONS)
    assert find_experiment("prompt-length").name == "prompt_length"
    with pytest.raises(InputError, match="experiment: expected one of checkpoints"):
        find_experiment("prompts")
