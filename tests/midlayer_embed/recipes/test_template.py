"""Templates in tokenizers: ids put together by hand, limits, and what is refused."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder, Recipe
from midlayer_embed.errors import InputError, InputTypeError
from midlayer_embed.models.backbone import load_tokenizer
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.recipes.names import TEMPLATES, find_template
from midlayer_embed.recipes.template import (
    _ids,
    check_room,
    length_of_all_copies,
    length_of_one_copy,
    own_tokens,
    put_template,
)

pytestmark = pytest.mark.model

WORDS = ["<unk>", "<s>", "</s>", "<pad>", "a", "b", "c", "say", "then", "it", "again", ":"]
ADDED = {
    "nothing": None,
    "both ends": processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]),
    "the end": processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)]),
    "as BERT": processors.BertProcessing(("</s>", 2), ("<s>", 1)),
    "as RoBERTa": processors.RobertaProcessing(("</s>", 2), ("<s>", 1)),
    "in a sequence": processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)]),
        ]
    ),
}


def words_tokenizer(post_processor: object = None) -> PreTrainedTokenizerFast:
    """One token a word."""
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    if post_processor is not None:
        backend.post_processor = post_processor
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def words(tokenizer: PreTrainedTokenizerBase, text: str, **options: object) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(tokenizer(text, **options)["input_ids"]))


@pytest.mark.parametrize("added", ADDED)
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("say : {text}", "say : a b"),
        ("{text} again", "a b again"),
        ("say {text} then {text} again", "say a b then a b again"),
        ("{text}{text}", "a b a b"),
        ("{text} : {text}", "a b : a b"),
    ],
)
def test_a_template_stands_inside_the_tokenizers_own_tokens(
    added: str, template: str, expected: str, tmp_path: Path
) -> None:
    tokenizer = words_tokenizer(ADDED[added])
    start = "<s> " * (added not in ("nothing", "the end"))
    end = " </s>" * (added not in ("nothing", "in a sequence"))
    put_template(tokenizer, template)
    assert words(tokenizer, "a b") == f"{start}{expected}{end}"
    assert set(tokenizer("a b").get("token_type_ids", [0])) == {0}
    tokenizer.save_pretrained(tmp_path)
    assert words(AutoTokenizer.from_pretrained(tmp_path), "a b") == f"{start}{expected}{end}"
    # without special tokens the template's own are gone, and the copies of the text stay
    assert tokenizer("a b", add_special_tokens=False)["input_ids"] == [4, 5] * template.count("{text}")


@pytest.mark.parametrize("template", ['"$A:0" $1 : {text}', "$ {text} say: {text}:1"])
def test_every_token_of_a_template_is_added_by_its_name_in_the_vocabulary(template: str, llama_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    *parts, text = (_ids(tokenizer, part) for part in (*template.split("{text}"), "a b"))
    start, end = own_tokens(tokenizer)
    expected = [*start, *parts[0], *(number for part in parts[1:] for number in (*text, *part)), *end]
    put_template(tokenizer, template)
    assert tokenizer("a b")["input_ids"] == expected
    pieces = json.loads(tokenizer.backend_tokenizer.to_str())["post_processor"]["single"]
    names = [piece.get("SpecialToken", {}).get("id") for piece in pieces]
    # as transformers.js reads it
    groups = [text if name is None else [tokenizer.get_vocab()[name]] for name in names]
    assert [number for group in groups for number in group] == expected


@pytest.mark.parametrize("limit", [6, 7, 8, 9, 20])
def test_the_limit_counts_the_template_and_both_copies(limit: int) -> None:
    tokenizer = words_tokenizer(ADDED["both ends"])
    template = "say {text} again {text}"
    put_template(tokenizer, template)
    length = length_of_one_copy(tokenizer, template, limit)
    found = words(tokenizer, "a b c", truncation=True, max_length=length).split()
    assert len(found) in (limit, limit - 1) or len(found) == 10
    assert found[0] == "<s>" and found[-1] == "</s>" and found.count("a") == 2
    assert length_of_all_copies(tokenizer, template, length) in (limit, limit - 1)
    assert length_of_one_copy(tokenizer, None, limit) == length_of_all_copies(tokenizer, None, limit) == limit


def test_a_limit_without_room_for_a_token_of_the_text_is_refused() -> None:
    tokenizer = words_tokenizer(ADDED["both ends"])
    put_template(tokenizer, "say {text} again {text}")
    check_room(tokenizer, "say {text} again {text}", 6)
    with pytest.raises(InputError, match="the template add 4 tokens to every text, which needs 2, got 5$"):
        check_room(tokenizer, "say {text} again {text}", 5)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("no place", r"^template: expected eol, echo, or a text with \{text\} in it once or twice, got 'no place'$"),
        ("{text} {text} {text}", "got it is there 3 times in "),
        ("{text}", "^template: {text} alone changes nothing"),
        ("", "^template: expected eol, echo"),
        ("EOL", "^template: expected eol, echo"),
        ("a \ud800 {text}", "^template: holds half of a surrogate pair"),
    ],
)
def test_what_is_no_template_is_named_before_anything_is_loaded(template: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_template(template)
    with pytest.raises(InputError, match=message):
        LayerwiseEncoder("/no/such/folder", template=template)
    with pytest.raises(InputTypeError, match="^template: expected"):
        Recipe(template=7)  # type: ignore[arg-type]


def test_braces_and_special_tokens_of_a_template_are_what_they_are() -> None:
    assert find_template('{"a": "{text}"}').parts == ('{"a": "', '"}')
    tokenizer = words_tokenizer()
    put_template(tokenizer, "<s> say {text} </s>")
    assert words(tokenizer, "a") == "<s> say a </s>"


@pytest.mark.parametrize("template", [" {text} ", "\n{text}", "{text}\t"])
def test_a_template_without_tokens_is_refused(template: str) -> None:
    with pytest.raises(InputError, match="^template: what is around {text} has no tokens, so it changes nothing, got "):
        put_template(words_tokenizer(ADDED["both ends"]), template)
    tokenizer = words_tokenizer()
    put_template(tokenizer, "{text}" + template)
    assert words(tokenizer, "a b") == "a b a b"


def test_a_template_around_a_template_is_refused() -> None:
    tokenizer = words_tokenizer(ADDED["both ends"])
    put_template(tokenizer, "say {text}")
    with pytest.raises(InputError, match="puts more than special tokens around a text already"):
        put_template(tokenizer, "{text} again")


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    from transformers import BertJapaneseTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "few", "words"]))
    slow = BertJapaneseTokenizer(str(tmp_path / "vocab.txt"), word_tokenizer_type="basic")
    assert not slow.is_fast
    with pytest.raises(InputError, match="expected a tokenizer of the tokenizers library, got BertJapaneseTokenizer"):
        put_template(slow, "eol")


def test_a_folder_that_was_saved_with_a_template_has_it(
    llama_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, template="echo", max_seq_length=50)
    encoder.save_pretrained(str(tmp_path / "saved"))
    again = MidLayerEncoder(tmp_path / "saved", -1)
    assert again.recipe.template is None and again.recipe.pooling_mode == "weightedmean"
    texts = [*sentences, "a long text " * 40]
    assert abs(again.encode(texts) - encoder.encode(texts)).max() <= 1e-5
    with pytest.raises(InputError, match="puts more than special tokens around a text already"):
        MidLayerEncoder(tmp_path / "saved", 1, template="eol")


@pytest.mark.parametrize("template", [*TEMPLATES, "query: {text}"])
def test_every_architecture_reads_a_template_as_put_together_by_hand(
    template: str, tiny_folders: dict[str, Path], sentences: list[str]
) -> None:
    for folder in tiny_folders.values():
        checkpoint = find_checkpoint(folder)
        plain, found = load_tokenizer(checkpoint), load_tokenizer(checkpoint, template)
        probe, whole = (plain("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        place = whole.index(probe[0])
        parts = [plain(part, add_special_tokens=False)["input_ids"] for part in find_template(template).parts]
        for text in sentences:
            ids = plain(text, add_special_tokens=False)["input_ids"]
            joined = [*parts[0], *itertools.chain.from_iterable([*ids, *part] for part in parts[1:])]
            assert found(text)["input_ids"] == whole[:place] + joined + whole[place + len(probe) :], folder


def test_encoders_of_one_model_share_its_weights(tiny_model: Callable[[str], Path], sentences: list[str]) -> None:
    folder = tiny_model("gpt_neox")
    every = LayerwiseEncoder(folder)
    echo = every.with_recipe(Recipe(template="echo", max_seq_length=40))
    assert echo.backbone.model is every.backbone.model
    assert (echo.pooling_mode, every.pooling_mode, echo.max_seq_length) == ("weightedmean", "mean", 40)
    alone = LayerwiseEncoder(folder, template="echo", max_seq_length=40)
    assert abs(echo.encode(sentences) - alone.encode(sentences)).max() <= 1e-6
    assert abs(every.encode(sentences) - LayerwiseEncoder(folder).encode(sentences)).max() <= 1e-6
    assert LayerwiseEncoder(folder, template="query: {text}").pooling_mode == "mean"
    assert LayerwiseEncoder(folder, template="eol", pooling_mode="cls").pooling_mode == "cls"


def test_lower_casing_holds_for_the_template_too() -> None:
    tokenizer = words_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    put_template(tokenizer, "SAY {text}")
    assert words(tokenizer, "A") == "say a"
