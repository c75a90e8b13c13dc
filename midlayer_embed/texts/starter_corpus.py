"""Real English sentences with labels and links, out of the docstrings of the installed numpy, scipy and scikit-learn.

For: the starter texts and the tasks of the leaderboard, on any machine, without a download. Pure extraction, the same
in every process. Not for: deciding which task gets which text, and not a general docstring parser.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

PACKAGES: tuple[str, ...] = ("numpy", "scipy", "scikit-learn")

# Raise when the same installed versions would give other texts, labels or links than before.
FORMAT_VERSION = "1"

# The public namespaces that are read, spelt out: walking the packages would depend on what else is installed or already
# imported. Left out: numpy.ma, numpy.char, scipy.fftpack and scipy.stats.mstats (second copies of other docstrings) and
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

# Every label that a task may ask for, with the word stems that would give it away. A text with ANY of them is left out
# of all tasks: leaving out only a class's own would tell by absence.
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
_SAME_WORDING = 0.4  # share of common words from which two sentences are one template ("... of the first/second kind")

_SIGNATURE = re.compile(r"[\w.]+\s*\(")
_UNDERLINE = re.compile(r"([-=~])\1{2,}")
_QUOTED_WORD = re.compile(r"``([A-Za-z]+)``|(?<![:\w])`([A-Za-z]+)`(?!_)")
# Code, mathematics and markup: what is left of it in a sentence is no English.
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
    """One public function or class: a sentence, where it lives, and what its "See Also" section names.

    Attributes:
        name: The identifier, as in `"sosfilt"`.
        package: `"numpy"`, `"scipy"` or `"sklearn"`.
        subpackage: The second part of the path, as in `"signal"`; the package's own name for its top level.
        module: The module that defines it, as in `"scipy.signal._signaltools"`; the public namespace where the package
            hides it (numpy, and compiled functions).
        text: The docstring's summary on one line.
        path: Public path, as in `"scipy.signal.sosfilt"`. Unique.
        names: Every public name of the text, `name` first: aliases, and namesakes with the very same summary.
        links: Sorted paths of the items that are linked by "See Also", in either direction.
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
        """True if `module` says no more than the public path does."""
        return self.module == self.path.rpartition(".")[0]


def corpus_revision() -> str:
    """Format and versions that fix the corpus, known without building it.

    Example:
        >>> corpus_revision().startswith("1-numpy")
        True
    """
    return "-".join([FORMAT_VERSION, *(f"{package}{version(package)}" for package in PACKAGES)])


def summary(docstring: str) -> str | None:
    r"""First paragraph of a docstring, whitespace collapsed; signatures that C functions put first are passed over.

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
    """The text as plain English, or None where it is code, markup, boilerplate, too short, or names a label.

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
    r"""Names in the "See Also" section, in order, as they are written.

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
            # Prose at the margin is no list of names.
            if all(_IDENTIFIER.fullmatch(name) for name in candidates):
                names.extend(candidates)
    return tuple(names)


def _public_names(module: object, namespace: str) -> Iterator[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        yield from sorted(name for name in set(listed) if not name.startswith("_"))
        return
    # A module without __all__ also shows what it imports: keep what it defines.
    for name, value in sorted(vars(module).items()):
        if not name.startswith("_") and getattr(value, "__module__", None) == namespace:
            yield name


def _public_objects(namespace: str) -> Iterator[tuple[str, object, str]]:
    """(name, object, docstring) of the documented functions and classes of a namespace."""
    module = importlib.import_module(namespace)
    numpy_scalar = importlib.import_module("numpy").generic
    for name in _public_names(module, namespace):
        try:
            value = getattr(module, name)
        except (AttributeError, ImportError):  # names that only exist after an opt-in import (sklearn.experimental)
            continue
        docstring = getattr(value, "__doc__", None)
        # Instances (scipy.stats.norm) have no __name__. Scalar types (int64) are documented platform by platform.
        is_scalar_type = inspect.isclass(value) and issubclass(value, numpy_scalar)
        if callable(value) and hasattr(value, "__name__") and isinstance(docstring, str) and not is_scalar_type:
            yield name, value, docstring


@dataclass
class _Entry:
    """An item while its links are still names."""

    name: str
    namespace: str
    module: str
    text: str
    written_links: list[tuple[str, str]]  # (namespace it was written in, name as written)


def _resolve(namespace: str, written: str, known: dict[str, int]) -> int | None:
    """Index of the entry that a "See Also" name means, nearest scope first."""
    scopes = [namespace]
    while "." in scopes[-1]:
        scopes.append(scopes[-1].rpartition(".")[0])
    for path in [*(f"{scope}.{written}" for scope in scopes), written]:
        if path in known:
            return known[path]
    return None


def _read_entries() -> tuple[list[_Entry], dict[str, int]]:
    """Entries with distinct texts, and every public path of each of them."""
    entries: list[_Entry] = []
    known: dict[str, int] = {}
    by_object: dict[int, int | None] = {}
    by_text: dict[str, int] = {}
    contradicted: set[int] = set()
    alive: list[object] = []  # id() is only unique among living objects
    for package, names in _NAMESPACES.items():
        for short in names.split():
            namespace = package if short == "." else f"{package}.{short}"
            for name, value, docstring in _public_objects(namespace):
                alive.append(value)
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
                            contradicted.add(index)  # one sentence, two labels
                        entries[index].written_links += [(namespace, written) for written in see_also(docstring)]
                    by_object[id(value)] = index
                if index is not None:
                    known[f"{namespace}.{name}"] = index
    return entries, {path: index for path, index in known.items() if index not in contradicted}


def _naming_others(entries: list[_Entry], paths: dict[int, list[str]]) -> list[int]:
    """Indices of the entries whose text calls another object by its identifier ("Inverse of pdtr with respect to k").

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
    """All usable items of the installed packages, in a fixed order; texts and paths are unique. Built once a process.

    Raises:
        ValueError: if a package gives no sentence at all (docstrings stripped by `python -OO`, or unknown versions).

    Example:
        >>> items = read_corpus()
        >>> len({item.text for item in items}) == len(items)
        True
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # namespaces announce their own deprecated names when looked at
        entries, known = _read_entries()
    paths: dict[int, list[str]] = {}
    for path, index in known.items():
        paths.setdefault(index, []).append(path)
    for index in _naming_others(entries, paths):
        del paths[index]
    links: dict[int, set[int]] = {index: set() for index in paths}
    for index in paths:
        for namespace, written in entries[index].written_links:
            target = _resolve(namespace, written, known)
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
    """True if a "See Also" section of one names the other."""
    return b.path in a.links


def comparable(a: Item, b: Item) -> bool:
    """False where a pair answers itself: one text names the other object, or repeats most of the other's words."""
    words_a, words_b = _lower_words(a.text), _lower_words(b.text)
    named = any(name.lower() in words_b for name in a.names) or any(name.lower() in words_a for name in b.names)
    short, long = sorted((f" {' '.join(words)} " for words in (words_a, words_b)), key=len)
    shared = len(set(words_a) & set(words_b)) / len(set(words_a) | set(words_b))
    return a.path != b.path and not named and short not in long and shared < _SAME_WORDING


def unrelated(a: Item, b: Item) -> bool:
    """Comparable, and neither linked nor linked to a common third: such a pair may be called negative."""
    return not linked(a, b) and set(a.links).isdisjoint(b.links) and comparable(a, b)
