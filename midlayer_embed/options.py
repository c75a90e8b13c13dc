"""The options for loading a model and pooling its states, each declared once.

Public functions take the fields of `Source` and `Recipe` as plain keywords and fold them with `fold`. Internal
functions take the two records. torch is not imported here.
"""

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_bool, check_optional_int
from midlayer_embed.layers import LAYER_SITE, SITES, check_site
from midlayer_embed.recipes.names import TEMPLATES, TEXT, TRANSFORMS, find_template, parse_transform

if TYPE_CHECKING:
    import torch

POOLING_MODES = ("mean", "cls", "lasttoken", "weightedmean", "max", "mean_sqrt_len_tokens")
# Those of images.
_IMAGE_POOLING_MODES = ("mean", "cls")
# What a recipe means where neither the user nor the model says anything.
DEFAULT_FINAL_NORM = True
DEFAULT_POOLING_MODE = "mean"
# Options for models whose files are not the usual ones. A sweep does not take them, since mteb could not load such a
# model again by its name.
FILE_OPTIONS = ("gguf_file", "trust_remote_code")
# The parts of a recipe that only an encoder of one layer has. Functions about every layer do not take them.
OF_ONE_LAYER = ("layer", "transform", "dim")

# The floating dtypes of torch that a model can compute in, by name.
_DTYPES = ("float32", "bfloat16", "float16", "float64", "float", "half", "double")
_MODEL_NAME = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)

_Function = TypeVar("_Function", bound=Callable[..., Any])


def wrong_dtype(dtype: object) -> InputError:
    """The error for what is no floating dtype."""
    return InputError(f"dtype: expected float32, bfloat16, float16 or float64, got {dtype!r}")


def _flag(flag: str, help_: str, *, of_texts: bool = False, **argument: Any) -> dict[str, Any]:
    """The command-line option of a field; `argument` holds more keywords of `add_argument`.

    Args:
        flag: The option.
        help_: Its help.
        of_texts: Whether only models of texts have it.
        **argument: More keywords.
    """
    return {"flag": flag, "of_texts": of_texts, "argument": {"help": help_, **argument}}


def pooling_modes(joined: object) -> tuple[str, ...]:
    """The modes of a `pooling_mode`, in order; none if it is invalid.

    Example:
        >>> pooling_modes("mean"), pooling_modes("cls+mean"), pooling_modes("sum")
        (('mean',), ('cls', 'mean'), ())
    """
    modes = tuple(joined.split("+")) if isinstance(joined, str) else ()
    return modes if all(mode in POOLING_MODES for mode in modes) else ()


def image_pooling_modes(joined: str) -> tuple[str, ...]:
    """The modes of a `pooling_mode` of images, in order.

    Raises:
        InputError: (a ValueError) one is invalid, or of texts alone.

    Example:
        >>> image_pooling_modes("cls+mean")
        ('cls', 'mean')
    """
    modes = pooling_modes(joined)
    if not modes or not set(modes) <= set(_IMAGE_POOLING_MODES):
        raise InputError(f"pooling_mode: of images {' or '.join(_IMAGE_POOLING_MODES)}, or both, got {joined!r}")
    return modes


@dataclass(frozen=True)
class Source:
    """Which weights are loaded, and how.

    Attributes:
        revision: Branch, tag or commit on the Hub.
        device: Device of the model. None: CUDA, MPS or CPU, the fastest that is available.
        dtype: dtype of the weights.
        bidirectional: Let every token of a causal decoder attend to every other token, as LLM2Vec does. An error where
            the architecture cannot do this, or does it already.
        adapters: PEFT adapters (folders or Hub ids) to merge into the weights, in this order.
        gguf_file: Name of a GGUF file in the model's folder.
        trust_remote_code: Whether the model's own code may run. Leave it off unless you trust its author.
        model_name: What a model in a folder is called in results and cards, "org/name" or "name". None: as the folder
            is. On the command line `--name`.
    """

    revision: str | None = field(
        default=None, metadata=_flag("--revision", "branch, tag or commit on the Hub (default: main)", metavar="REV")
    )
    device: "str | torch.device | None" = field(
        default=None,
        metadata=_flag("--device", "cpu, cuda, ... (default: the fastest that is available)", metavar="DEVICE"),
    )
    dtype: "str | torch.dtype" = field(
        default="float32", metadata=_flag("--dtype", "dtype of the weights (default: float32)", metavar="DTYPE")
    )
    bidirectional: bool = field(
        default=False,
        metadata=_flag(
            "--bidirectional",
            "let every token of a causal decoder attend to every other token",
            action="store_true",
            of_texts=True,
        ),
    )
    adapters: Sequence[str | Path] = field(
        default=(),
        metadata=_flag(
            "--adapter",
            "PEFT adapter (a folder or a Hub id) to merge into the weights; repeat it for several, in order",
            action="append",
            metavar="NAME",
            of_texts=True,
        ),
    )
    gguf_file: str | None = field(
        default=None,
        metadata=_flag("--gguf-file", "name of a GGUF file in the folder MODEL", metavar="NAME", of_texts=True),
    )
    trust_remote_code: bool = field(
        default=False,
        metadata=_flag("--trust-remote-code", "let the model's own code run", action="store_true"),
    )
    model_name: str | None = field(
        default=None,
        metadata=_flag(
            "--name", "name of a model in a folder, for results and cards (default: the folder's)", metavar="NAME"
        ),
    )

    def __post_init__(self) -> None:
        if isinstance(self.dtype, str) and self.dtype not in _DTYPES:
            raise wrong_dtype(self.dtype)
        for name in ("bidirectional", "trust_remote_code"):
            object.__setattr__(self, name, check_bool(name, getattr(self, name)))
        if self.model_name is not None:
            check_model_name("model_name", self.model_name)


@dataclass(frozen=True)
class Recipe:
    """How a text becomes a vector.

    Attributes:
        layer: The layer, 0..L; None for every layer, or where it is not chosen yet.
        final_norm: True: pool the states after the model's own final norm; False: pool the residual stream as the block
            leaves it. No difference for models without a final norm. None: what the model's own sentence-transformers
            config says, else True. On the command line `--normed` and `--raw`.
        template: "eol", "echo", or a text with {text} in it once or twice, which is put around every text, around its
            prompt too. None: none.
        pooling_mode: "mean" over attended tokens, "cls", "lasttoken", "weightedmean", "max" or "mean_sqrt_len_tokens";
            several joined by "+", such as "cls+mean", are concatenated. None: "weightedmean" under the templates "eol"
            and "echo", else what the model's own sentence-transformers config says, else "mean".
        transform: An affine map of the pooled vectors that was fitted on unlabelled texts: "center", "standardize",
            "remove:k", "whiten:r", or "whiten" (whiten:10), see `midlayer_embed.recipes.transform`. None: none.
        dim: Number of dimensions that whitening keeps. None: all.
        max_seq_length: Number of tokens to which a text is truncated, at least 1; its template and both of its copies
            count. None: the limit of the folder's own sentence-transformers config if it has one, else the smaller of
            the model's limit and 512.
        site: The place in a block whose states are pooled, one of `midlayer_embed.layers.SITES`. "resid_post" (default)
            is the block's output, the layer; the others are for measuring and cannot be exported.
    """

    layer: int | None = None
    final_norm: bool | None = None
    template: str | None = field(
        default=None,
        metadata=_flag(
            "--template",
            f"{', '.join(TEMPLATES)}, or a text with {TEXT} in it once or twice, to put around every text",
            metavar="NAME|TEXT",
            of_texts=True,
        ),
    )
    pooling_mode: str | None = field(
        default=None,
        metadata=_flag(
            "--pooling",
            f"{', '.join(POOLING_MODES)}, or several joined by +, such as cls+mean (default: weightedmean under eol "
            "and echo, else the model's own sentence-transformers config, else mean)",
            metavar="MODE",
        ),
    )
    transform: str | None = field(
        default=None,
        metadata=_flag(
            "--transform",
            f"{', '.join(TRANSFORMS)} or whiten (whiten:10), fitted on the texts of --transform-texts",
            metavar="NAME",
        ),
    )
    dim: int | None = field(
        default=None,
        metadata=_flag("--dim", "keep the first N dimensions of whiten (default: all)", type=int, metavar="N"),
    )
    max_seq_length: int | None = field(
        default=None,
        metadata=_flag(
            "--max-seq-length",
            "truncate texts to this many tokens (default: the model's limit)",
            type=int,
            metavar="N",
            of_texts=True,
        ),
    )
    site: str = field(
        default=LAYER_SITE,
        metadata=_flag(
            "--site",
            f"place in a block: {', '.join(SITES)} (default: {LAYER_SITE}, which is the layer)",
            metavar="SITE",
            of_texts=True,
        ),
    )

    def __post_init__(self) -> None:
        check_site(self.site)
        if self.pooling_mode is not None and not pooling_modes(self.pooling_mode):
            raise InputError(
                f"pooling_mode: expected one of {', '.join(POOLING_MODES)}, or several joined by +, "
                f"got {self.pooling_mode!r}"
            )
        if self.final_norm is not None:
            object.__setattr__(self, "final_norm", check_bool("final_norm", self.final_norm))
        if self.template is not None:
            find_template(self.template)
        if self.transform is not None:
            object.__setattr__(self, "transform", parse_transform(self.transform)[2])
        numbers = {
            "layer": check_optional_int("layer", self.layer, 0),
            "dim": check_optional_int("dim", self.dim, 1),
            "max_seq_length": check_optional_int("max_seq_length", self.max_seq_length, 1),
        }
        for name, number in numbers.items():  # integers of numpy become ints
            object.__setattr__(self, name, number)
        if self.dim is not None and (self.transform or "").partition(":")[0] != "whiten":
            raise InputError(f"dim: only whitening orders the dimensions, got dim={self.dim} for {self.transform}")


# The fields of both records that only models of texts have.
OF_TEXTS = tuple(f.name for record in (Source, Recipe) for f in fields(record) if f.metadata.get("of_texts"))


def of_every_layer(recipe: Recipe) -> dict[str, Any]:
    """The parts of a recipe that every layer can share, by name: all but `OF_ONE_LAYER`.

    Example:
        >>> of_every_layer(Recipe(layer=3, pooling_mode="cls"))["pooling_mode"]
        'cls'
    """
    return {name: value for name, value in asdict(recipe).items() if name not in OF_ONE_LAYER}


def check_every_layer(recipe: Recipe) -> None:
    """Reject a recipe for every layer that has a part of `OF_ONE_LAYER`.

    Raises:
        InputError: (a ValueError) the message names the part.
    """
    for name in OF_ONE_LAYER:
        if (value := getattr(recipe, name)) is not None:
            raise InputError(
                f"recipe: expected one for every layer, without {', '.join(OF_ONE_LAYER)}, got {name}={value}"
            )


class ModelOptions(TypedDict, total=False):
    """The fields of both records for type checkers, except `FILE_OPTIONS` and `OF_ONE_LAYER`."""

    final_norm: bool | None
    template: str | None
    pooling_mode: str | None
    max_seq_length: int | None
    site: str
    revision: str | None
    bidirectional: bool
    adapters: Sequence[str | Path]
    dtype: "str | torch.dtype"
    device: "str | torch.device | None"
    model_name: str | None


class AnyModelOptions(ModelOptions, total=False):
    """The fields of both records for type checkers, except `OF_ONE_LAYER`."""

    gguf_file: str | None
    trust_remote_code: bool


def is_model_name(name: object) -> bool:
    """Whether a model can have a name on the Hub: letters, digits, "-", "_" and ".", with an owner or without.

    Example:
        >>> is_model_name("org/model-1.0"), is_model_name("org/my model")
        (True, False)
    """
    return isinstance(name, str) and _MODEL_NAME.fullmatch(name) is not None


def check_model_name(argument: str, name: str) -> str:
    """A name that a model can have on the Hub: letters, digits, "-", "_" and ".", with an owner or without.

    Raises:
        InputError: (a ValueError) not such a name.

    Example:
        >>> check_model_name("base_model", "org/model-1.0")
        'org/model-1.0'
    """
    if not is_model_name(name):
        raise InputError(f"{argument}: expected a name such as 'org/name' or 'name', got {name!r}")
    return name


def fold(options: Mapping[str, Any]) -> tuple[Source, Recipe]:
    """The two records from the keywords of a public function.

    Raises:
        InputError: (a ValueError) the value of an option is invalid; the message names the option.

    Example:
        >>> source, recipe = fold({"revision": "step1000", "pooling_mode": "cls"})
        >>> source.revision, recipe.pooling_mode, recipe.final_norm
        ('step1000', 'cls', None)
    """
    source, recipe = ({f.name for f in fields(record)} for record in (Source, Recipe))
    return (
        Source(**{name: value for name, value in options.items() if name in source}),
        Recipe(**{name: value for name, value in options.items() if name in recipe}),
    )


def takes_options(*, without: Collection[str] = ()) -> Callable[[_Function], _Function]:
    """Decorator of a function with `**options`: its signature shows the fields of both records as keywords.

    `OF_ONE_LAYER` are left out: a function that takes them names them itself. An unknown keyword raises a TypeError, as
    for any function.

    Args:
        without: Fields that the function does not take.

    Example:
        >>> @takes_options(without=FILE_OPTIONS)
        ... def load(model, **options):
        ...     return fold(options)[1].pooling_mode
        >>> load("a model", pooling_mode="cls")
        'cls'
        >>> load("a model", gguf_file="a.gguf")
        Traceback (most recent call last):
        ...
        TypeError: load() got an unexpected keyword argument 'gguf_file'
    """
    left_out = (*without, *OF_ONE_LAYER)
    taken = [f for record in (Source, Recipe) for f in fields(record) if f.name not in left_out]
    shown = [inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default) for f in taken]

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        known = {parameter.name for parameter in (*own, *shown)}

        @wraps(function)
        def checked(*arguments: Any, **keywords: Any) -> Any:
            for name in keywords:
                if name not in known:
                    raise TypeError(f"{function.__qualname__}() got an unexpected keyword argument {name!r}")
            return function(*arguments, **keywords)

        checked.__signature__ = signature.replace(parameters=[*own, *shown])  # type: ignore[attr-defined]
        return cast("_Function", checked)

    return decorate
