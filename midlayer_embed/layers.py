"""Layer numbers and sites, the same for every architecture. No model is needed.

Layer 0 is the input of block 1, layer k the output of block k, layer L the output of the last block: L + 1 layers. A
site is a place in a block, so there are L of each.
"""

import numbers
from collections.abc import Iterable

from midlayer_embed.errors import InputError, InputTypeError

# The output of a block: the only site that is a layer, and that stock models return.
LAYER_SITE = "resid_post"
# Places in a block, with the names of TransformerLens: the residual stream before attention, between attention and MLP
# and after the MLP; and what attention, the MLP, or the mixer of a state-space model adds to it.
RESIDUAL_SITES = ("resid_pre", "resid_mid", LAYER_SITE)
SITES = (*RESIDUAL_SITES, "attn_out", "mlp_out", "mixer_out")


def layer_number(layer: int | float, n_blocks: int, site: str = LAYER_SITE) -> int:
    """Resolve a layer or a depth to a layer number.

    Args:
        layer: A layer as an int (negative: from the end), or a depth in [0, 1] as a float, rounded to a layer.
        n_blocks: L, the number of blocks of the model.
        site: The site, one of `SITES`: sites other than a block's output are in blocks 1..L.

    Returns:
        An int in 0..L.

    Raises:
        InputError: (a ValueError) out of range, or a layer that lacks the site; the message names the range.
        InputTypeError: (a ValueError and a TypeError) neither an int nor a float.

    Example:
        >>> layer_number(17, 24), layer_number(-1, 24), layer_number(0.7, 24)
        (17, 24, 17)
    """
    check_layer(layer)
    if isinstance(layer, numbers.Integral):
        number = int(layer)
        if not -(n_blocks + 1) <= number <= n_blocks:
            raise InputError(
                f"layer: {number} is out of range; a model of {n_blocks} blocks has layers 0..{n_blocks} "
                f"(or -{n_blocks + 1}..-1 from the end)"
            )
        return _with_site(number % (n_blocks + 1), n_blocks, site)
    depth = float(layer)
    if not 0 <= depth <= 1:
        raise InputError(
            f"layer: depth {depth} is out of range; a depth is a number from 0.0 (embeddings) to 1.0 (last)"
        )
    return _with_site(round(depth * n_blocks), n_blocks, site)


def _with_site(number: int, n_blocks: int, site: str) -> int:
    first = first_layer(site)
    if number < first:
        raise InputError(
            f"layer: {number} is what enters block 1 and has no {site}; expected a layer from {first} to {n_blocks}"
        )
    return number


def check_layer(layer: int | float) -> None:
    """Reject what is neither a layer nor a depth.

    Raises:
        InputTypeError: (a ValueError and a TypeError) neither an int nor a float.
    """
    if isinstance(layer, bool) or not isinstance(layer, numbers.Real):
        raise InputTypeError(f"layer: expected an int or a depth as a float, got {layer!r}")


def check_site(site: object) -> str:
    """A site by name.

    Raises:
        InputError: (a ValueError) the message lists the sites.

    Example:
        >>> check_site("attn_out")
        'attn_out'
    """
    if not isinstance(site, str) or site not in SITES:
        raise InputError(f"site: expected one of {', '.join(SITES)}, got {site!r}")
    return site


def check_is_layer(site: str, what: str) -> None:
    """Reject a site inside of blocks, for what only layers can be.

    Args:
        site: One of `SITES`.
        what: What only a layer can be, such as "chosen".

    Raises:
        InputError: (a ValueError) the message says why.
    """
    if site != LAYER_SITE:
        raise InputError(
            f"site: only a layer ({LAYER_SITE}) can be {what}, because stock models return the output of whole blocks, "
            f"not {site}; encode, profile and sweeps take every site"
        )


def first_layer(site: str = LAYER_SITE) -> int:
    """The lowest layer that has a site: only the output of blocks goes on below block 1, with what enters it.

    Example:
        >>> first_layer(), first_layer("attn_out")
        (0, 1)
    """
    return 0 if site == LAYER_SITE else 1


def layer_numbers(layers: str | Iterable[int | float] | None, n_blocks: int, site: str = LAYER_SITE) -> list[int]:
    """Resolve layers or depths to layer numbers, in the order given. A layer that is named twice is there twice.

    Args:
        layers: None or "all" for every layer that has the site, or the layers and depths that `layer_number` accepts.
        n_blocks: L, the number of blocks of the model.
        site: The site, one of `SITES`: sites other than a block's output are in blocks 1..L.

    Raises:
        InputError: (a ValueError) a layer is out of range or lacks the site, or there is none.
        InputTypeError: (a ValueError and a TypeError) not a list, or an item is neither an int nor a float.

    Example:
        >>> layer_numbers([0, 6, -1, 12], 12), layer_numbers("all", 3), layer_numbers("all", 3, "attn_out")
        ([0, 6, 12, 12], [0, 1, 2, 3], [1, 2, 3])
    """
    if layers is None or (isinstance(layers, str) and layers == "all"):
        return list(range(first_layer(site), n_blocks + 1))
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise InputTypeError(f'layers: expected "all" or a list of layers such as [0, 6, -1], got {layers!r}')
    numbers = [layer_number(layer, n_blocks, site) for layer in layers]
    if not numbers:
        raise InputError("layers: expected at least one layer, got an empty list")
    return numbers


def layer_list(layers: Iterable[int]) -> str:
    """Layers in words, with ranges of three or more.

    Example:
        >>> layer_list([0, 1, 2, 3, 7]), layer_list([0, 2, 3])
        ('0 to 3, 7', '0, 2, 3')
    """
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def n_blocks_at(layer: int, depth: float) -> int:
    """The number of blocks of a model whose `layer` is at `depth`; 1 at depth 0, which does not determine it.

    Example:
        >>> n_blocks_at(24, 1.0), n_blocks_at(17, 17 / 24), n_blocks_at(0, 0.0)
        (24, 24, 1)
    """
    return max(1, round(layer / depth)) if depth else 1


def parse_layer(text: str) -> int | float:
    """Parse a layer from the command line: a number with a point is a depth, without one a layer.

    Raises:
        InputError: (a ValueError) not a number.

    Example:
        >>> parse_layer("1"), parse_layer("1.0"), parse_layer("-1")
        (1, 1.0, -1)
    """
    number = _parse_number(text)
    if number is None:
        raise InputError(f"layer: expected a layer (17, -1) or a depth (0.7), got {text!r}")
    return number


def parse_layer_or_name(text: str) -> int | float | str:
    """Like `parse_layer`, but return anything that is not a number unchanged: it may name a criterion.

    Example:
        >>> parse_layer_or_name("1.0"), parse_layer_or_name("min-dime")
        (1.0, 'min-dime')
    """
    number = _parse_number(text)
    return text if number is None else number


def _parse_number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None
