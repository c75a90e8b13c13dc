"""Where the sites of each kind of block are: the module to listen to, and whether its input or its output is meant.

What a part adds to the residual stream is taken as it is added: after a norm that follows the part (Gemma 2), and
before a norm that follows the sum (BERT).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from midlayer_embed.layers import SITES


@dataclass(frozen=True)
class Tap:
    """A tensor inside a block.

    Attributes:
        module: Dotted path from the block to a module; "" for the block itself.
        is_input: Whether the input of the module is meant, not its output.
    """

    module: str
    is_input: bool = False


@dataclass(frozen=True)
class BlockSites:
    """The sites of a kind of block.

    Attributes:
        taps: Where each site is, without "resid_pre" and "resid_post", which are the block's own input and output.
        lacking: Why the block has no such site, for each of the other sites.
    """

    taps: Mapping[str, Tap]
    lacking: Mapping[str, str] = field(default_factory=dict)

    def tap(self, site: str) -> Tap | None:
        """Where a site is; None if the block has none."""
        return {"resid_pre": Tap("", is_input=True), "resid_post": Tap(""), **self.taps}.get(site)

    def available(self) -> list[str]:
        """The sites of the block, in the order of `SITES`."""
        return [site for site in SITES if self.tap(site) is not None]


_NO_MIXER = {"mixer_out": "its blocks consist of attention and an MLP, not of a mixer"}
_PARALLEL = {"resid_mid": "attention and MLP read the same state (a parallel residual), so there is none between them"}
_ONE_PART = "its blocks consist of a mixer, without attention and MLP"


def transformer_sites(attention: str, mlp: str, between: Tap | str | None) -> BlockSites:
    """The sites of a block of attention and an MLP.

    Args:
        attention: Module whose output is what attention adds.
        mlp: Module whose output is what the MLP adds.
        between: The state between them: a tap, or the module whose input it is; None if they are parallel.
    """
    taps = {"attn_out": Tap(attention), "mlp_out": Tap(mlp)}
    if between is None:
        return BlockSites(taps, {**_PARALLEL, **_NO_MIXER})
    found = Tap(between, is_input=True) if isinstance(between, str) else between
    return BlockSites({"resid_mid": found, **taps}, _NO_MIXER)


def mixer_sites(mixer: str) -> BlockSites:
    """The sites of a block of one mixer.

    Args:
        mixer: Module whose output is what the mixer adds.
    """
    lacking = dict.fromkeys(("resid_mid", "attn_out", "mlp_out"), _ONE_PART)
    return BlockSites({"mixer_out": Tap(mixer)}, lacking)
