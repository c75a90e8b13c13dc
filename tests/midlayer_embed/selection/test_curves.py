import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tiers import slow

from midlayer_embed import LayerSelection
from midlayer_embed.encoder.card import selection_section
from midlayer_embed.options import Recipe
from midlayer_embed.selection.criteria import selection_summary
from midlayer_embed.selection.curves import (
    curve_bars,
    curve_markdown,
    draw_profile,
    draw_selection,
    measured_on,
    profile_table,
)
from midlayer_embed.selection.measures import MetricSettings
from midlayer_embed.selection.profile import Profile
from midlayer_embed.terms import METRICS

_PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def profile() -> Profile:
    values = {metric: np.array([3.0, 1.0, 1.25, float("nan")]) for metric in METRICS}
    return Profile(
        "org/model", "main", 70, 70, Recipe(final_norm=False, max_seq_length=512), MetricSettings(), values, {}
    )


def test_the_site_is_told(profile: Profile) -> None:
    states = "states of 70 texts"
    for site, expected in (("resid_post", f"raw {states}"), ("mlp_out", f"mlp_out, raw {states}")):
        at_site = replace(profile, recipe=Recipe(final_norm=False, site=site), encoded_norm=False)
        assert measured_on(at_site) == expected
    normed = replace(profile, recipe=Recipe(final_norm=True, site="mlp_out"))
    assert measured_on(normed) == f"mlp_out, raw {states}"  # the final norm does not apply
    mid = replace(profile, recipe=Recipe(final_norm=True, site="resid_mid"), encoded_norm=True)
    assert measured_on(mid) == f"resid_mid, normed {states}"


@pytest.fixture
def selection(profile: Profile) -> LayerSelection:
    return LayerSelection(
        layer=1,
        n_layers=4,
        criterion="min-dime",
        values=np.array([3.0, 1.0, 1.25, 2.5]),
        runner_up=2,
        margin=0.25,
        stability=0.75,
        n_resamples=20,
        profile=profile,
    )


def test_the_table_has_a_row_a_layer(profile: Profile) -> None:
    head, *rows = profile_table(profile).splitlines()
    assert head.split() == ["layer", "depth", *METRICS]
    assert rows[2].split() == ["2", "0.67", *["1.250"] * len(METRICS)]
    assert rows[3].split() == ["3", "1.00", *["-"] * len(METRICS)]
    assert {len(line) for line in (head, *rows)} == {len(head)}
    assert profile_table(profile, len(head)) == profile_table(profile)


def test_heads_are_broken_at_underscores_to_fit(profile: Profile) -> None:
    above, head, *_ = profile_table(profile, 80).splitlines()
    assert above.split() == ["prompt", "dataset", "effective"]
    assert head.split() == ["layer", "depth", "entropy", "entropy", "curvature", "infonce", "lidar", "dime", "rank"]
    assert len(head) <= 80


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80, 200])
def test_no_table_is_wider_than_the_terminal(profile: Profile, width: int) -> None:
    """Unless not even one metric fits beside layer and depth. Heads are whole words, and each number stands once."""
    blocks = [block.splitlines() for block in profile_table(profile, width).split("\n\n")]
    assert max(len(line) for block in blocks for line in block) <= max(width, len("layer  depth  uniformity"))
    words = {word for block in blocks for line in block for word in re.findall("[a-z]+", line)}
    assert words == {"layer", "depth", *(word for metric in METRICS for word in metric.split("_"))}
    assert [block[-2].split()[:2] for block in blocks] == [["2", "0.67"]] * len(blocks)
    assert sum(len(block[-2].split()) - 2 for block in blocks) == len(METRICS)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_bars_fit_into_the_terminal(selection: LayerSelection, width: int) -> None:
    lines = curve_bars(selection, width).splitlines()
    assert max(map(len, lines)) <= max(width, len("    1   0.33            1.000     runner-up") + 4)
    assert lines[1].count("█") > lines[2].count("█") == 1


def test_a_choice_is_told_with_its_margin_and_stability(selection: LayerSelection) -> None:
    assert selection_summary(selection) == [
        "layer 1 of 3 (depth 0.33), by min-dime over 70 texts",
        "runner-up: layer 2, behind by 0.2500 (12.5% of the curve's range)",
        "stability: the same layer on 15 of 20 random halves of the texts",
    ]
    assert selection_summary(LayerSelection(3, 4, "last")) == ["layer 3 of 3 (depth 1.00), by last"]


def test_jupyter_shows_the_summary(selection: LayerSelection) -> None:
    first, *others = selection_summary(selection)
    assert selection._repr_markdown_() == "\n".join([f"**{first}**", "", *(f"- {line}" for line in others)])
    assert LayerSelection(3, 4, "last", reason="a|b")._repr_markdown_().endswith("\n- a\\|b")


def test_bars_grow_with_the_values(selection: LayerSelection) -> None:
    bars = [line.count("█") for line in curve_bars(selection).splitlines()[1:]]
    assert bars == [32, 1, 5, 24]
    assert curve_bars(selection).splitlines()[2].endswith("█ chosen")
    assert curve_bars(LayerSelection(3, 4, "last")) == ""


def test_markdown_marks_the_layer(selection: LayerSelection) -> None:
    assert curve_markdown(selection).splitlines()[3] == "| **1** | **0.33** | **1.000** |"


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pictures_appear_whole(profile: Profile, selection: LayerSelection, tmp_path: Path, suffix: str) -> None:
    draw_profile(profile, tmp_path / f"profile{suffix}")
    draw_selection(selection, tmp_path / f"selection{suffix}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"profile{suffix}", f"selection{suffix}"]
    head = (tmp_path / f"selection{suffix}").read_bytes()[:200]
    assert head.startswith(_PNG) if suffix == ".png" else b"<svg" in (tmp_path / "selection.svg").read_bytes()


def test_pictures_and_words_say_that_the_first_token_is_left_out(
    profile: Profile, selection: LayerSelection, tmp_path: Path
) -> None:
    assert measured_on(profile) == "raw and normed states of 70 texts"
    without = replace(profile, settings=MetricSettings(first_token=False))
    said = "raw and normed states of 70 texts, without the first token of each"
    assert measured_on(without) == said
    chosen = replace(selection, profile=without)
    draw_profile(without, tmp_path / "profile.svg")
    draw_selection(chosen, tmp_path / "selection.svg")
    for picture in tmp_path.iterdir():
        assert f"<!-- {said} -->" in picture.read_text()
    assert selection_summary(chosen)[0].endswith("by min-dime over 70 texts, without the first token of each")
    assert f"measured on the {said} (seed 0)." in selection_section(chosen, None)


def test_what_measured_nothing_has_no_picture(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'last' measures nothing"):
        draw_selection(LayerSelection(3, 4, "last"), tmp_path / "selection.png")


@pytest.mark.parametrize("n_metrics", [*slow(1), len(METRICS)])
@pytest.mark.parametrize("name", [*slow("org/model"), "org/" + "a-long-name" * 15, "a $x^2 and $\\frac{ \u6a21\u578b"])
def test_titles_name_the_model_and_are_not_clipped(
    profile: Profile,
    selection: LayerSelection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    n_metrics: int,
) -> None:
    from matplotlib.figure import Figure
    from matplotlib.image import imread
    from matplotlib.text import Text

    found = []
    save = Figure.savefig

    def told(figure: Figure, *args: object, **kwargs: object) -> None:
        save(figure, *args, **kwargs)  # type: ignore[arg-type]
        (title,) = (text.get_text() for text in figure.texts if text.get_text())
        found.append((title, min(text.get_fontsize() for text in figure.findobj(Text))))

    monkeypatch.setattr(Figure, "savefig", told)
    named = replace(profile, model=name, values=dict(list(profile.values.items())[:n_metrics]))
    draw_profile(named, tmp_path / "profile.png")
    draw_selection(replace(selection, profile=named), tmp_path / "selection.png")
    assert len(found) == 2
    for title, smallest in found:
        assert name.replace(" ", "") in title.replace("\n", "").replace(" ", "")
        assert smallest >= 12
    for png in tmp_path.iterdir():
        assert struct.unpack(">II", png.read_bytes()[16:24]) == (1920, 1080)
        picture = imread(png)
        edges = (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:])
        assert all((edge == 1).all() for edge in edges)  # nothing reaches the edge, so nothing is cut
