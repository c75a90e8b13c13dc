"""The experiments: their names, what the paper saw, and what each can be asked for. Imports nothing heavy."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from midlayer_embed.errors import InputError

# Options of the command that only some experiments take; the keyword of the function is the same.
OPTIONS = (
    *("revisions", "p", "lengths", "sites", "alphas", "betas", "layers"),
    *("metrics", "scores", "rates", "first_token", "one_token"),
)


@dataclass(frozen=True)
class Experiment:
    """An experiment of the paper.

    The module has the function of the same name, and `draw_NAME` and `summary_NAME`, which need only its table.

    Attributes:
        name: Name of the function and of the command's NAME.
        title: Title of its section.
        paper: The paper's figures.
        saw: What the paper saw in them.
        module: Where the function is.
        takes: Those of `OPTIONS` that it takes.
        several: Whether it compares several models.
        published: Whether a published table of metrics can be drawn beside, or alone.
        resumes: Whether finished models are kept in the folder that is its keyword `folder`, and not measured again.
        without_model: Whether it runs without a model, too.
    """

    name: str
    title: str
    paper: str
    saw: str
    module: str
    takes: tuple[str, ...]
    several: bool = False
    published: bool = False
    resumes: bool = False
    without_model: bool = False

    def part(self, prefix: str = "") -> Any:
        """The function, or with the prefix "draw_" or "summary_" what makes its figure or its small table."""
        return getattr(import_module(self.module), prefix + self.name)


_HOME = "leaderboard.experiments"
EXPERIMENTS = {
    one.name: one
    for one in (
        Experiment(
            "checkpoints",
            "Layers in training",
            "Figures 4 and 11",
            "The metrics of layers in the middle change the most in training; those of early layers settle soon.",
            f"{_HOME}.profiles",
            ("revisions", "metrics", "rates"),
            published=True,
            resumes=True,
        ),
        Experiment(
            "compare_models",
            "Models over depth",
            "Figures 12 and 13",
            "Decoders compress in the middle, larger ones more; BERT and Mamba are flatter. Finetuning for embeddings "
            "makes layers more alike for augmented copies of a text.",
            f"{_HOME}.profiles",
            ("metrics", "scores", "rates"),
            several=True,
            published=True,
            resumes=True,
        ),
        Experiment(
            "sequence_length",
            "Entropy over the length of a text",
            "Figure 5",
            "Qwen2.5-Math keeps a higher prompt entropy than Qwen2.5, with less spread over the texts.",
            f"{_HOME}.prefixes",
            ("lengths", "layers", "first_token"),
            several=True,
        ),
        Experiment(
            "repetition",
            "Repeated tokens",
            "Figure 6a",
            "The more tokens are repeated, the lower is prompt entropy, above all in the middle layers.",
            f"{_HOME}.prompts",
            ("p", "metrics", "first_token", "one_token"),
        ),
        Experiment(
            "randomness",
            "Random tokens",
            "Figure 6b",
            "Random tokens raise prompt entropy, above all in the first layers; later layers are more robust.",
            f"{_HOME}.prompts",
            ("p", "metrics", "first_token"),
        ),
        Experiment(
            "prompt_length",
            "Longer prompts",
            "Figure 6c",
            "Prompt entropy grows with the length of a prompt, and each further token adds less.",
            f"{_HOME}.prompts",
            ("lengths", "metrics", "first_token"),
        ),
        Experiment(
            "sublayers",
            "Sites within a block",
            "Figure 15",
            "The valley in the middle layers is one of the residual stream: what attention and MLP add is compressed "
            "only mildly.",
            f"{_HOME}.blocks",
            ("sites", "layers", "metrics", "first_token"),
        ),
        Experiment(
            "alpha_curves",
            "Orders of entropy",
            "Figure 7",
            "The entropy of a power-law spectrum falls with its order alpha, and faster the steeper the spectrum is.",
            f"{_HOME}.alpha",
            ("alphas", "betas", "layers"),
            without_model=True,
        ),
    )
}


def find_experiment(name: str) -> Experiment:
    """An experiment by name; "-" counts as "_".

    Raises:
        InputError: (a ValueError) the message lists the names.

    Example:
        >>> find_experiment("prompt-length").paper
        'Figure 6c'
    """
    found = EXPERIMENTS.get(name.replace("-", "_"))
    if found is None:
        raise InputError(f"experiment: expected one of {', '.join(EXPERIMENTS)}, got {name!r}")
    return found
