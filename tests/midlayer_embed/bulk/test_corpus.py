"""Which files a corpus has, the same in every process."""

import os
from pathlib import Path

import pytest

from midlayer_embed.bulk.corpus import check_apart, find_corpus, is_corpus
from midlayer_embed.errors import InputError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    for name in (
        "b.txt",
        "a.txt",
        "10.txt",
        "2.txt",
        "sub/c.txt",
        ".hidden.txt",
        "_log.txt",
        "README.md",
        ".git/d.txt",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ("data", ("10.txt", "2.txt", "a.txt", "b.txt", "sub/c.txt")),
        ("data/", ("10.txt", "2.txt", "a.txt", "b.txt", "sub/c.txt")),
        ("data/[ab].txt", ("a.txt", "b.txt")),
        ("data/**/*.txt", ("10.txt", "2.txt", "_log.txt", "a.txt", "b.txt", "sub/c.txt")),
        (["data/b.txt", "data/a.txt"], ("a.txt", "b.txt")),
        (["data/sub", "data/a.txt"], ("a.txt", "sub/c.txt")),
        (["data/sub/*.txt", "data/2.txt"], ("2.txt", "sub/c.txt")),
        ("data/a.txt", ("a.txt",)),
    ],
    ids=str,
)
@pytest.mark.usefixtures("data")
def test_files_are_in_the_order_of_their_names(inputs: str | list[str], names: tuple[str, ...]) -> None:
    corpus = find_corpus(inputs)
    assert corpus.names == names
    assert [corpus.path(number).read_text() for number in range(len(names))] == [
        os.path.relpath(corpus.path(number), "data") for number in range(len(names))
    ]
    assert corpus.sizes == tuple(corpus.path(number).stat().st_size for number in range(len(names)))
    assert is_corpus(inputs) is (inputs != "data/a.txt")


def test_the_order_of_what_is_given_does_not_count(data: Path) -> None:
    paths = [data / name for name in ("2.txt", "sub/c.txt", "a.txt")]
    assert find_corpus(paths) == find_corpus(paths[::-1])


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(data: Path) -> None:
    (data / "a[1].txt").write_text("")
    assert not is_corpus(data / "a[1].txt")
    assert find_corpus(data / "a[1].txt").names == ("a[1].txt",)


def test_a_folder_that_a_link_leads_back_to_is_entered_once(data: Path) -> None:
    (data / "sub" / "loop").symlink_to(data)
    assert len(find_corpus(data).names) == 5


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ("data/*.csv", r"^input: no file matches data/\*\.csv$"),
        ("nowhere", r"^input: there is no file .*nowhere$"),
        ("data/*", "expected a file ending in .txt.*README.md"),
        (["data/a.txt", "data/../data/b.txt", "data/a.txt"], r"a\.txt is named 2 times"),
        (["data", "data/a.txt"], r"a\.txt is named 2 times"),
        ("empty", "holds no file of texts"),
        ("mixed", r"several formats \(1 \.json, 2 \.txt\); name those .* in quotes, such as '.*mixed/\*\*/\*\.txt'"),
        ([], "got none"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("data")
def test_what_is_no_corpus_is_told_in_one_line(inputs: str | list[str], said: str) -> None:
    for name in ("empty", "mixed"):
        Path(name).mkdir()
    for name in ("a.txt", "b.txt", "about.json"):
        Path("mixed", name).write_text("")
    with pytest.raises(InputError, match=said) as told:
        find_corpus(inputs)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("inputs", "folder", "said"),
    [
        ("data", "data", "outside of the input"),
        ("data", "data/vectors", "outside of the input, got .*, which is in data"),
        ("link", "data/vectors", "outside of the input"),
        ("data", "link/vectors", "outside of the input"),
        ("data/**/*.jsonl", "data/vectors", r"data/\*\*/\*\.jsonl stands for .*part-00000.jsonl as well"),
        ("data/*.jsonl", "data", "as well"),
        ("data/*.jsonl", "link", "as well"),
        ("data/part-00000.jsonl", "data", "another file than the input"),
        ("data/*.jsonl", "data/vectors", None),
        ("data/*/*.jsonl", "vectors", None),
        ("data", "database", None),
        ("data", ".", None),
    ],
)
def test_the_output_is_no_input_of_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: str, folder: str, said: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "part-00000", "sub/c"):
        path = Path("data", f"{name}.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    Path("link").symlink_to("data")
    if inputs == "data/*.jsonl" and said == "as well":
        Path("data/part-00000.jsonl").unlink()
    corpus = find_corpus(inputs)
    if said is None:
        check_apart(inputs, corpus, Path(folder).absolute(), ["part-00000.jsonl"])
    else:
        with pytest.raises(InputError, match=said):
            check_apart(inputs, corpus, Path(folder).absolute(), ["part-00000.jsonl"])
