"""English sentences with labels and links, from the docstrings of the installed numpy, scipy and scikit-learn.

Source of the starter texts and starter tasks: available without a download, and the same in every process. The tasks
choose their texts themselves. This is not a general docstring parser.
"""

import functools
import importlib
import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

PACKAGES: tuple[str, ...] = ("numpy", "scipy", "scikit-learn")

# Increment when texts, labels or links change for the same installed versions.
FORMAT_VERSION = "1"

# The public namespaces to read. A fixed list, because walking the packages would depend on what else is installed or
# imported. Excluded: numpy.ma, numpy.char, scipy.fftpack and scipy.stats.mstats (copies of other docstrings) and
# numpy.polynomial.* (one template, six times).
_NAMESPACES: dict[str, str] = {
    "numpy": ". linalg fft random strings testing lib.stride_tricks",
    "scipy": (
        "cluster.hierarchy cluster.vq constants datasets differentiate fft integrate interpolate io linalg"
        " linalg.interpolative ndimage odr optimize signal signal.windows sparse sparse.csgraph sparse.linalg spatial"
        " spatial.distance spatial.transform special stats stats.contingency stats.qmc stats.sampling"
    ),
    "sklearn": (
        "base calibration cluster compose covariance cross_decomposition datasets decomposition discriminant_analysis"
        " dummy ensemble exceptions feature_extraction feature_extraction.image feature_extraction.text"
        " feature_selection gaussian_process gaussian_process.kernels impute inspection isotonic kernel_approximation"
        " kernel_ridge linear_model manifold metrics metrics.cluster metrics.pairwise mixture model_selection"
        " multiclass multioutput naive_bayes neighbors neural_network pipeline preprocessing random_projection"
        " semi_supervised svm tree utils utils.extmath utils.graph utils.sparsefuncs utils.validation"
    ),
}

# Labels that tasks may predict, with the word stems that reveal them. A text with ANY of the stems is excluded from all
# tasks: if only the stems of its own label were excluded, their absence would reveal the label.
LABEL_STEMS: dict[str, tuple[str, ...]] = {
    "interpolate": ("interpol",),
    "linalg": ("linalg", "algebra"),
    "metrics": ("metric",),
    "ndimage": ("ndimage", "image"),
    "optimize": ("optim",),
    "random": ("random",),
    "signal": ("signal",),
    "special": ("special",),
    "stats": ("stats", "statist"),
}

_MIN_WORDS, _MAX_WORDS = 5, 40
_SAME_WORDING = 0.4  # fraction of common words at which two sentences share a template ("... of the first/second kind")

_SIGNATURE = re.compile(r"[\w.]+\s*\(")
_UNDERLINE = re.compile(r"([-=~])\1{2,}")
_QUOTED_WORD = re.compile(r"``([A-Za-z]+)``|(?<![:\w])`([A-Za-z]+)`(?!_)")
# Remains of code, mathematics and markup in a sentence.
_MARKUP = re.compile(r"[`*|<>=\\{}_@#~^$\[\]]|::|\.\.|\w\.[A-Za-z]")
_ABBREVIATION = re.compile(r"\b(?:i\.e|e\.g|a\.k\.a)\.")
_BOILERPLATE = re.compile(
    r"\balias\b|deprecat|\bdocstring|^see\b|\bsee (?:also|the|help)\b|^same as\b|\brefer to\b|\blegacy\b"
    r"|\bpython (?:2|3)\b|\bplaceholder\b|\bdo not use\b|\bversion \d|\binternal (?:use|function)",
    re.IGNORECASE,
)
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z])(?=[A-Z])")
_STEM = re.compile(r"\b(?:" + "|".join(stem for stems in LABEL_STEMS.values() for stem in stems) + ")", re.IGNORECASE)
_ROLE = re.compile(r":[a-z:]+:`~?([^`<]+?)`|`~?([^`]+)`")
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*")
_WORD = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True)
class Item:
    """A public function or class: its summary sentence, its place in the package, and its "See Also" links.

    Attributes:
        name: Identifier, such as `"sosfilt"`.
        package: `"numpy"`, `"scipy"` or `"sklearn"`.
        subpackage: Second part of the path, such as `"signal"`; the name of the package for its top level.
        module: Defining module, such as `"scipy.signal._signaltools"`; the public namespace if the package hides it
            (numpy, and compiled functions).
        text: Summary of the docstring, on one line.
        path: Public path, such as `"scipy.signal.sosfilt"`. Unique.
        names: All public names with this text, `name` first: aliases, and other objects with the same summary.
        links: Sorted paths of the items linked by "See Also", in either direction.
    """

    name: str
    package: str
    subpackage: str
    module: str
    text: str
    path: str
    names: tuple[str, ...]
    links: tuple[str, ...]

    @property
    def hides_module(self) -> bool:
        """Whether `module` is just the public namespace."""
        return self.module == self.path.rpartition(".")[0]


def corpus_revision() -> str:
    """Format version and package versions, which determine the corpus. Does not build it.

    Example:
        >>> corpus_revision().startswith("1-numpy")
        True
    """
    return "-".join([FORMAT_VERSION, *(f"{package}{version(package)}" for package in PACKAGES)])


def summary(docstring: str) -> str | None:
    r"""First paragraph of a docstring on one line. The signature at the start of C functions' docstrings is skipped.

    Example:
        >>> summary("sin(x, /, out=None)\n\nTrigonometric sine,\nelement-wise.\n\nParameters\n----------")
        'Trigonometric sine, element-wise.'
    """
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = paragraph.strip().splitlines()
        if len(lines) > 1 and _UNDERLINE.fullmatch(lines[1].strip()):
            return None
        if lines and not lines[0].startswith("..") and not _SIGNATURE.match(lines[0]):
            return " ".join(paragraph.split())
    return None


def sentence(text: str) -> str | None:
    """The text as plain English; None if it is code, markup, boilerplate, too short or long, or reveals a label.

    Example:
        >>> sentence("Return the elements of ``a`` in sorted order.")
        'Return the elements of a in sorted order.'
        >>> sentence("Inverse of `numpy.foo` along the given axis.") is None
        True
    """
    plain = _QUOTED_WORD.sub(lambda match: match[1] or match[2], text).strip()
    words = plain.split()
    readable = (
        plain.isascii()
        and _MIN_WORDS <= len(words) <= _MAX_WORDS
        and plain[0].isupper()
        and not plain.endswith((":", ","))
        and sum(word.strip("(),.;:'\"").isalpha() for word in words) >= 0.6 * len(words)
    )
    if not readable or _MARKUP.search(_ABBREVIATION.sub("", plain)) or _BOILERPLATE.search(plain):
        return None
    return None if _STEM.search(_CAMEL_BOUNDARY.sub(" ", plain)) else plain


def see_also(docstring: str) -> tuple[str, ...]:
    r"""Names in the "See Also" section of a docstring, in order, as written.

    Example:
        >>> see_also("Sum.\n\nSee Also\n--------\nmean, median : Averages.\n:func:`numpy.prod`\n    Product.")
        ('mean', 'median', 'numpy.prod')
    """
    lines = inspect.cleandoc(docstring).splitlines()
    names: list[str] = []
    inside = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if _UNDERLINE.fullmatch(following.strip()):
            inside = line.strip().lower() == "see also"
        elif inside and line[:1].strip() and not _UNDERLINE.fullmatch(line.strip()):
            entry = _ROLE.sub(lambda match: match[1] or match[2], line).split(" :")[0].rstrip(": ")
            candidates = [name.strip() for name in entry.split(",") if name.strip()]
            # Unindented prose is not a list of names.
            if all(_IDENTIFIER.fullmatch(name) for name in candidates):
                names.extend(candidates)
    return tuple(names)


def _public_names(module: object, namespace: str) -> Iterator[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        yield from sorted(name for name in set(listed) if not name.startswith("_"))
        return
    # Without __all__, the names of a module include its imports: keep only what it defines.
    for name, value in sorted(vars(module).items()):
        if not name.startswith("_") and getattr(value, "__module__", None) == namespace:
            yield name


def _public_objects(namespace: str) -> Iterator[tuple[str, object, str]]:
    """(name, object, docstring) of each documented function and class in a namespace."""
    module = importlib.import_module(namespace)
    numpy_scalar = importlib.import_module("numpy").generic
    for name in _public_names(module, namespace):
        try:
            value = getattr(module, name)
        except (AttributeError, ImportError):  # names that need an opt-in import first (sklearn.experimental)
            continue
        docstring = getattr(value, "__doc__", None)
        # Instances (scipy.stats.norm) have no __name__. Docstrings of scalar types (int64) depend on the platform.
        is_scalar_type = inspect.isclass(value) and issubclass(value, numpy_scalar)
        if callable(value) and hasattr(value, "__name__") and isinstance(docstring, str) and not is_scalar_type:
            yield name, value, docstring


@dataclass
class _Entry:
    """An item whose links are not resolved yet."""

    name: str
    namespace: str
    module: str
    text: str
    written_links: list[tuple[str, str]]  # (namespace of the docstring, name as written)


def _resolve_link(namespace: str, written: str, known: dict[str, int]) -> int | None:
    """Index of the entry that a "See Also" name refers to, nearest scope first."""
    scopes = [namespace]
    while "." in scopes[-1]:
        scopes.append(scopes[-1].rpartition(".")[0])
    for path in [*(f"{scope}.{written}" for scope in scopes), written]:
        if path in known:
            return known[path]
    return None


def _read_entries() -> tuple[list[_Entry], dict[str, int]]:
    """Entries with distinct texts, and the index of the entry for every public path."""
    entries: list[_Entry] = []
    known: dict[str, int] = {}
    by_object: dict[int, int | None] = {}
    by_text: dict[str, int] = {}
    ambiguous: set[int] = set()
    kept_alive: list[object] = []  # id() is unique among living objects only
    for package, names in _NAMESPACES.items():
        for short in names.split():
            namespace = package if short == "." else f"{package}.{short}"
            for name, value, docstring in _public_objects(namespace):
                kept_alive.append(value)
                if id(value) in by_object:
                    index = by_object[id(value)]
                else:
                    text = sentence(summary(docstring) or "")
                    index = None
                    if text is not None:
                        index = by_text.setdefault(text, len(entries))
                        if index == len(entries):
                            defined = getattr(value, "__module__", None) or ""
                            module = defined if defined.startswith(f"{package}.") else namespace
                            entries.append(_Entry(name, namespace, module, text, []))
                        elif _subpackage(entries[index].namespace) != _subpackage(namespace):
                            ambiguous.add(index)  # one sentence, two labels
                        entries[index].written_links += [(namespace, written) for written in see_also(docstring)]
                    by_object[id(value)] = index
                if index is not None:
                    known[f"{namespace}.{name}"] = index
    return entries, {path: index for path, index in known.items() if index not in ambiguous}


def _find_naming_others(entries: list[_Entry], paths: dict[int, list[str]]) -> list[int]:
    """Indices of entries whose text names another object by its identifier ("Inverse of pdtr with respect to k").

    A public name counts as English ("mean", "histogram") if texts of two subpackages use it, otherwise as code.
    """
    used_by: dict[str, set[str]] = {}
    for index in paths:
        for word in _WORD.findall(entries[index].text):
            used_by.setdefault(word, set()).add(_subpackage(entries[index].namespace))
    public = {path.rpartition(".")[2] for same in paths.values() for path in same}
    public.update(written.rpartition(".")[2] for entry in entries for _, written in entry.written_links)
    code = {name for name in public if len(name) > 2 and name == name.lower() and len(used_by.get(name, ())) == 1}
    return [
        index
        for index, same in paths.items()
        if (code - {path.rpartition(".")[2] for path in same}).intersection(_WORD.findall(entries[index].text))
    ]


def _subpackage(namespace: str) -> str:
    return namespace.split(".")[1] if "." in namespace else namespace


@functools.cache
def read_corpus() -> tuple[Item, ...]:
    """All usable items of the installed packages, in a fixed order. Texts and paths are unique. Built once per process.

    Raises:
        ValueError: A package has no usable docstring (they are stripped by `python -OO`, or the version is unknown).

    Example:
        >>> items = read_corpus()
        >>> len({item.text for item in items}) == len(items)
        True
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading deprecated names of a namespace warns
        entries, known = _read_entries()
    paths: dict[int, list[str]] = {}
    for path, index in known.items():
        paths.setdefault(index, []).append(path)
    for index in _find_naming_others(entries, paths):
        del paths[index]
    links: dict[int, set[int]] = {index: set() for index in paths}
    for index in paths:
        for namespace, written in entries[index].written_links:
            target = _resolve_link(namespace, written, known)
            if target is not None and target != index and target in paths:
                links[index].add(target)
                links[target].add(index)
    items = tuple(
        Item(
            name=entries[index].name,
            package=entries[index].namespace.split(".")[0],
            subpackage=_subpackage(entries[index].namespace),
            module=entries[index].module,
            text=entries[index].text,
            path=paths[index][0],
            names=tuple(dict.fromkeys(path.rpartition(".")[2] for path in paths[index])),
            links=tuple(sorted(paths[target][0] for target in links[index])),
        )
        for index in sorted(paths)
    )
    for package in _NAMESPACES:
        if not any(item.package == package for item in items):
            raise ValueError(
                f"no usable docstring found in {package} ({corpus_revision()}); expected hundreds. "
                "Docstrings are missing under `python -OO`."
            )
    return items


@functools.cache
def _lower_words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def linked(a: Item, b: Item) -> bool:
    """Whether the "See Also" section of one item names the other."""
    return b.path in a.links


def comparable(a: Item, b: Item) -> bool:
    """Whether a pair is usable: neither text names the other object or repeats most of the other's words."""
    words_a, words_b = _lower_words(a.text), _lower_words(b.text)
    named = any(name.lower() in words_b for name in a.names) or any(name.lower() in words_a for name in b.names)
    short, long = sorted((f" {' '.join(words)} " for words in (words_a, words_b)), key=len)
    shared = len(set(words_a) & set(words_b)) / len(set(words_a) | set(words_b))
    return a.path != b.path and not named and short not in long and shared < _SAME_WORDING


def unrelated(a: Item, b: Item) -> bool:
    """Whether a pair is a valid negative: comparable, not linked, and without a common linked item."""
    return not linked(a, b) and set(a.links).isdisjoint(b.links) and comparable(a, b)
