import sys
from pathlib import Path

import polars as pl
import pytest
from transformers import AutoTokenizer

from midlayer_embed import profile_layers, select_layer
from midlayer_embed.cli.program import main
from midlayer_embed.errors import InputError
from midlayer_embed.selection.criteria import selection_summary
from midlayer_embed.selection.curves import curve_bars, profile_table


@pytest.fixture
def texts(sentences: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(sentences))
    return path


def test_profile_prints_the_table_and_writes_it_with_its_picture(
    llama_folder: Path, texts: Path, sentences: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    capsys.readouterr()  # of the model's making
    arguments = ["profile", str(llama_folder), "--texts", str(texts), "--metrics", "dime", "curvature", "--normed"]
    assert main([*arguments, "--seed", "3", "--max-texts", "6", "--out", str(folder)]) == 0
    expected = profile_layers(llama_folder, sentences, ["dime", "curvature"], 6, True, 3)
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{profile_table(expected)}\nnormed states of 6 texts\n")
    assert captured.err == f"midlayer-embed: {texts}: 8 texts, one a line\n"  # no bar: short work, no terminal
    assert sorted(path.name for path in folder.iterdir()) == ["profile.parquet", "profile.png"]
    assert pl.read_parquet(folder / "profile.parquet")["value"].to_list() == expected.to_frame()["value"].to_list()


def test_select_prints_layer_depth_margin_stability_and_curve(
    llama_folder: Path, texts: Path, sentences: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", str(llama_folder), "--texts", str(texts), "--criterion", "min-entropy", "--quiet"]) == 0
    captured = capsys.readouterr()
    expected = selection_summary(select_layer(llama_folder, sentences, "min-entropy"))
    lines = captured.out.splitlines()
    assert lines[-len(expected) :] == expected
    assert lines[0].split() == ["layer", "depth", "dataset_entropy"]
    assert len(lines) == 1 + 4 + len(expected)
    assert captured.err == ""


@pytest.mark.parametrize("criterion", ["half-retrieval", "half-and-drop", "min-entropy"])
@pytest.mark.parametrize("final_norm", [None, False, True])
def test_select_measures_the_states_that_select_layer_measures(
    llama_folder: Path,
    texts: Path,
    sentences: list[str],
    capsys: pytest.CaptureFixture[str],
    criterion: str,
    final_norm: bool | None,
) -> None:
    norm = {None: [], False: ["--raw"], True: ["--normed"]}[final_norm]
    assert main(["select", str(llama_folder), "--texts", str(texts), "--criterion", criterion, "--quiet", *norm]) == 0
    expected = select_layer(llama_folder, sentences, criterion, final_norm=final_norm)
    assert capsys.readouterr().out.splitlines()[:5] == curve_bars(expected, 80).splitlines()


def test_profile_says_that_the_first_token_is_left_out(
    llama_folder: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["profile", str(llama_folder), "--texts", str(texts), "--metrics", "curvature", "half_retrieval"]
    assert main([*arguments, "--no-first-token", "--out", str(tmp_path / "out"), "--quiet"]) == 0
    said = capsys.readouterr().out.splitlines()[-2]
    assert said == "raw and normed states of 7 texts, without the first token of each"
    assert pl.read_parquet(tmp_path / "out/profile.parquet")["first_token"].unique().to_list() == [False]


@pytest.mark.parametrize("source", [["--texts", "texts.txt"], ["--dataset", "org/data"], ["--starter-texts"]])
@pytest.mark.parametrize(
    "command",
    [
        ["select", "nowhere"],
        ["select", "nowhere", "--criterion", "min-dime"],
        ["profile", "nowhere"],
        ["recipe", "nowhere"],
        ["export", "nowhere", "out", "--layer", "auto"],
        ["export", "nowhere", "out", "--layer", "1", "--transform", "center"],
        ["encode", "nowhere", "--layer", "1", "--input", "texts.txt", "--output", "v.npy", "--transform", "center"],
    ],
    ids=" ".join,
)
def test_a_wrong_model_is_told_before_texts_are_read(
    texts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    source: list[str],
) -> None:
    monkeypatch.chdir(texts.parent)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("file_texts", "dataset_texts", "starter_texts"):
        monkeypatch.setattr(f"midlayer_embed.texts.corpora.{name}", lambda *_, **__: pytest.fail("texts were read"))
    if command[0] == "encode":
        source = ["--transform-texts", "texts.txt"]
    assert main([*command, *source]) == 2
    error = capsys.readouterr().err
    assert error == "midlayer-embed: model: 'nowhere' is neither a folder nor a model on the Hub or in its cache\n"
    assert [path.name for path in Path().iterdir()] == ["texts.txt"]


@pytest.mark.parametrize("command", ["select", "profile", "recipe"])
def test_a_wrong_device_is_told_before_texts_are_read(
    llama_folder: Path,
    texts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setattr("midlayer_embed.texts.corpora.file_texts", lambda *_: pytest.fail("texts were read"))
    assert main([command, str(llama_folder), "--texts", str(texts), "--device", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("midlayer-embed: device: 'nowhere' cannot be used here")


@pytest.mark.parametrize("command", ["profile", "recipe"])
def test_tables_that_cannot_be_written_are_told_before_texts_are_read(
    llama_folder: Path,
    texts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setattr("midlayer_embed.texts.corpora.file_texts", lambda *_: pytest.fail("texts were read"))
    monkeypatch.setitem(sys.modules, "polars", None)
    assert main([command, str(llama_folder), "--texts", str(texts), "--out", str(texts.with_name("out"))]) == 2
    said = "midlayer-embed: out: needs polars; run: pip install 'midlayer-embed[select]'\n"
    assert capsys.readouterr().err == said


def test_select_without_texts_where_none_are_needed(llama_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", str(llama_folder), "--criterion", "depth:0.7"]) == 0
    assert capsys.readouterr().out == "layer 2 of 3 (depth 0.67), by depth:0.7\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["select", "MODEL", "--starter-texts", "--criterion", "min-foo"], "criterion: expected one of auto, min-dime"),
        (["select", "MODEL", "--criterion", "min-dime"], "min-dime needs texts: pass --texts FILE"),
        (["select", "MODEL", "--texts", "missing.txt"], "texts: there is no file"),
        (["profile", "MODEL", "--texts", "."], "texts: expected a file ending in .txt"),
        (["recipe", "MODEL", "--texts", "texts.txt", "--column", "body"], "column: a .txt file has no columns"),
        (["recipe", "MODEL", "--texts", "same.txt"], "got 3 texts, 3 of them of two words or more, 1 different"),
        (["select", "MODEL", "--criterion", "depth:0.1", "--no-layer-zero"], "layer_zero: criterion 'depth:0.1' takes"),
        (["select", "MODEL", "--texts", "empty.txt"], "empty.txt is empty"),
        (["profile", "MODEL", "--texts", "empty.txt"], "empty.txt is empty"),
        (["export", "MODEL", "out", "--layer", "min-dime", "--texts", "empty.txt"], "empty.txt is empty"),
        (["select", "MODEL", "--texts", "blank.txt"], "blank.txt: 2 texts, one a line; all of them are blank"),
        (
            ["select", "MODEL", "--texts", "header.csv"],
            "header.csv has no texts",
        ),
        (
            ["select", "MODEL", "--texts", "one.txt", "--criterion", "min-dime"],
            "needs at least two different texts, got 1",
        ),
        (["select", "MODEL", "--texts", "texts.txt", "--column", "body"], "a .txt file has no columns"),
        (
            ["select", "MODEL", "--dataset", "nowhere/at-all"],
            "dataset: 'nowhere/at-all' (split 'test') cannot be loaded",
        ),
        (["select", "MODEL", "--texts", "texts.txt", "--rates", "none"], "rates: expected one of"),
        (["select", "MODEL", "--texts", "texts.txt", "--max-texts", "0"], "max_texts: expected an int of at least 1"),
        (["select", "MODEL", "--texts", "texts.txt", "--starter-texts"], "not allowed with argument"),
        (["select", "no/such/folder", "--texts", "texts.txt"], "there is no folder"),
        (["profile", "MODEL"], "one of the arguments --texts --dataset --starter-texts --images is required"),
        (["profile", "MODEL", "--texts", "texts.txt", "--metrics", "depth"], "metrics: expected some of"),
        (["profile", "MODEL", "--texts", "texts.txt", "--raw", "--normed"], "not allowed with argument"),
        (["profile", "MODEL", "--texts", "texts.txt", "--out", "one.txt"], "one.txt cannot be written: it is a file"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    llama_folder: Path,
    texts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(texts.parent)
    Path("empty.txt").write_text("")
    Path("one.txt").write_text("one text")
    Path("same.txt").write_text("the same text\n" * 3)
    Path("blank.txt").write_text("\n \n")
    Path("header.csv").write_text("id,text\n")
    before = sorted(Path().iterdir())
    command = [str(llama_folder) if argument == "MODEL" else argument for argument in arguments]
    try:
        code = main([*command, "--quiet"])
    except SystemExit as exit:  # argparse
        code = int(str(exit.code))
    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len([line for line in error.splitlines() if line.strip()]) <= 2
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(("command", "goes_on"), [("select", False), ("encode", True)])
def test_an_interrupted_command_says_how_to_go_on_only_where_it_can(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, goes_on: bool
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"midlayer_embed.cli.{command}._{command}", interrupted)
    options = {"select": [], "encode": ["--layer", "1", "--input", "a.txt", "--output", "a.npy"]}[command]
    assert main([command, "model", *options]) == 130
    assert ("run the same command again to resume" in capsys.readouterr().err) is goes_on


def test_profile_of_a_site(
    llama_folder: Path, texts: Path, sentences: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    arguments = ["profile", str(llama_folder), "--texts", str(texts), "--metrics", "dime", "curvature", "--normed"]
    assert main([*arguments, "--site", "mlp_out", "--quiet", "--out", str(tmp_path / "out")]) == 0
    expected = profile_layers(llama_folder, sentences, ["dime", "curvature"], final_norm=True, site="mlp_out")
    out = capsys.readouterr().out
    assert out.startswith(f"{profile_table(expected)}\nmlp_out, raw states of 8 texts\n")
    assert out.splitlines()[1].split() == ["0", "0.00", "-", "-"]
    table = pl.read_parquet(tmp_path / "out" / "profile.parquet")
    assert table["site"].unique().to_list() == ["mlp_out"]
    assert table["value"].is_nan().to_list() == (table["layer"] == 0).to_list()
    assert (tmp_path / "out" / "profile.png").stat().st_size > 10_000


@pytest.mark.parametrize("command", ["select", "recipe"])
def test_a_site_is_not_chosen(
    llama_folder: Path, texts: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command, str(llama_folder), "--texts", str(texts), "--site", "mlp_out"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("midlayer-embed: site: only a layer (resid_post) can be chosen, because stock")
    assert len(captured.err.strip().splitlines()) == 1


@pytest.mark.parametrize("site", ["mixer_out", "mlp", "RESID_MID"])
def test_a_site_that_is_not_there_is_one_line(
    llama_folder: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], site: str
) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["profile", str(llama_folder), "--texts", str(texts), "--site", site, *out]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("midlayer-embed: ") and "site: " in captured.err
    assert captured.err.strip().splitlines()[-1].endswith("mlp_out") or repr(site) in captured.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "given", "at_least"),
    [
        (["--dataset", "wikitext", "--data-dir", "data"], {"data_dir": "data"}, 30),
        (["--dataset", "sotu"], {}, 30),
        (["--dataset", "sotu", "--min-tokens", "5"], {}, 5),
        (["--dataset", "org/data", "--split", "dev"], {"split": "dev"}, 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_paragraphs_of_datasets_are_measured_if_they_are_long(
    llama_folder: Path,
    sentences: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: list[str],
    given: dict[str, str],
    at_least: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/Salesforce/wikitext/wikitext-103-raw-v1").mkdir(parents=True)
    Path("data/Salesforce/wikitext/wikitext-103-raw-v1/test.jsonl").write_text('{"text": "a"}\n')
    read = []

    def dataset_texts(dataset: str, **keywords: str) -> list[str]:
        read.append({name: value for name, value in keywords.items() if value not in (None, "test")})
        return [*sentences, "too short", " ".join(sentences), " ".join(sentences[::-1])]

    monkeypatch.setattr("midlayer_embed.texts.corpora.dataset_texts", dataset_texts)
    command = ["profile", str(llama_folder), *source, "--metrics", "dataset_entropy", "--quiet"]
    assert main(command) == 0
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    lengths = map(len, tokenizer(dataset_texts(""))["input_ids"])
    expected = sum(length >= at_least for length in lengths)
    assert capsys.readouterr().out.splitlines()[-1] == f"raw states of {expected} texts"
    assert read[0] == given


def test_proxy_tasks_and_datasets_are_read_from_one_option(
    llama_folder: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def select_layer(*_: object, data_dir: str | None = None, criterion: str, **__: object) -> None:
        asked.append((criterion, data_dir))
        raise InputError("enough")

    monkeypatch.chdir(texts.parent)
    texts.with_name("org").mkdir()
    texts.with_name("org").joinpath("test.txt").write_text("a line\nanother line\n")
    monkeypatch.setattr("midlayer_embed.selection.select.select_layer", select_layer)
    for command in (["select", str(llama_folder), "--criterion"], ["export", str(llama_folder), "out", "--layer"]):
        assert main([*command, "proxy", "--data-dir", "."]) == 2
        assert main([*command, "min-entropy", "--data-dir", ".", "--dataset", "org"]) == 2
    assert asked == [("proxy", "."), ("min-entropy", None)] * 2
