"""A training run in two minutes: a tiny GPT-NeoX, as Pythia is one, with a folder for each checkpoint.

A machine without the Hub has no checkpoints of a training run; with these every experiment on training can be tried:

    python -m leaderboard.experiments.profiles.training runs/tiny
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from leaderboard.experiments.optimizing import optimize
from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file, atomic_folder
from midlayer_embed.ground.checks import check_int
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.ground.whole_files import write_json
from midlayer_embed.texts.tokens import check_texts

MAIN = "main"
_RECORD = "training.json"
_END = "<|endoftext|>"
_DECAY = 0.01  # as of Pythia


@dataclass(frozen=True)
class Training:
    """The settings of a run.

    Attributes:
        n_steps: Number of steps of the optimizer.
        n_blocks: Number of blocks, L.
        hidden_size: Width of the states.
        n_heads: Number of attention heads.
        n_vocabulary: Number of tokens; the tokenizer, byte-level BPE, is trained on the same texts.
        context: Number of tokens of an example.
        batch_size: Number of examples in a step.
        learning_rate: The highest one.
        seed: Seed of the weights and of the order of the examples.
    """

    n_steps: int = 512
    n_blocks: int = 6
    hidden_size: int = 128
    n_heads: int = 4
    n_vocabulary: int = 2000
    context: int = 64
    batch_size: int = 16
    learning_rate: float = 2e-3
    seed: int = 0

    @property
    def saved(self) -> list[int]:
        """The steps whose checkpoints are saved: powers of two, and the last one."""
        return [*(2**power for power in range(self.n_steps.bit_length()) if 2**power < self.n_steps), self.n_steps]


def train_checkpoints(
    folder: str | Path,
    texts: Sequence[str] | None = None,
    training: Training | None = None,
    *,
    show_progress: bool = False,
) -> dict[str, float]:
    """Train a tiny GPT-NeoX and save its checkpoints, each as a folder that transformers loads.

    A run that is there already, of the same texts and settings, is left as it is.

    Args:
        folder: Where the checkpoints go: step1, step2, step4, ..., and main, the last one.
        texts: What it is trained on; None: the starter texts (`texts.corpora.starter_texts`).
        training: The settings; None: 512 steps, which take two minutes on two cores.
        show_progress: Show a bar with the loss on stderr.

    Returns:
        For each checkpoint, by the name of its folder, the mean training loss (nats a token) since the one before.

    Raises:
        InputError: (a ValueError) a number of the settings is below 1, or there are too few texts for an example.
    """
    training = training or Training()
    check_int("n_steps", training.n_steps, 1)
    check_int("n_blocks", training.n_blocks, 1)
    check_int("context", training.context, 1)
    check_int("batch_size", training.batch_size, 1)
    out = target_folder(folder, "folder")
    found = check_texts(_starter_texts() if texts is None else texts)
    asked = {**asdict(training), "texts": hashlib.sha256(repr(found).encode()).hexdigest()}
    if (losses := _finished(out, asked)) is not None:
        return losses
    tokenizer = _tokenizer(found, training.n_vocabulary)
    tokens = torch.tensor([token for text in found for token in tokenizer(f"{text}{_END}")["input_ids"]])
    if len(tokens) <= training.context:
        raise InputError(f"texts: expected more than {training.context} tokens, got {len(tokens)}")
    losses = {}
    for step, model, loss in _steps(tokens, training, len(tokenizer), show_progress):
        name = MAIN if step == training.n_steps else f"step{step}"
        with atomic_folder(out / name, replace=True) as partial, quiet_transformers():
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        losses[name] = loss
    with atomic_file(out / _RECORD) as partial:
        write_json(partial, {"training": asked, "losses": losses})
    return losses


def _steps(
    tokens: torch.Tensor, training: Training, n_tokens: int, show_progress: bool
) -> Iterator[tuple[int, GPTNeoXForCausalLM, float]]:
    """The model at each step that is saved, with the mean loss since the last one."""
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        torch.manual_seed(training.seed)
        model = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=n_tokens,
                hidden_size=training.hidden_size,
                num_hidden_layers=training.n_blocks,
                num_attention_heads=training.n_heads,
                intermediate_size=4 * training.hidden_size,
                max_position_embeddings=512,
            )
        ).train()

    def loss_of(draws: torch.Generator) -> torch.Tensor:
        starts = torch.randint(len(tokens) - training.context, (training.batch_size, 1), generator=draws)
        examples = tokens[starts + torch.arange(training.context)]
        loss: torch.Tensor = model(input_ids=examples, labels=examples).loss
        return loss

    since: list[float] = []
    rate, seed = training.learning_rate, training.seed
    for step, loss in optimize(
        model, loss_of, training.n_steps, rate, decay=_DECAY, seed=seed, show_progress=show_progress
    ):
        since.append(loss)
        if step in training.saved:
            yield step, model, sum(since) / len(since)
            since = []


def _tokenizer(texts: Sequence[str], n_vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocabulary, special_tokens=[_END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END)  # type: ignore[no-untyped-call]


def _finished(folder: Path, asked: dict[str, object]) -> dict[str, float] | None:
    """The losses of a run that is there already with these settings."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        losses = dict(record["losses"])
        same = record["training"] == asked and all((folder / name / "config.json").is_file() for name in losses)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return losses if same else None


def _starter_texts() -> list[str]:
    from midlayer_embed.texts.corpora import starter_texts

    return starter_texts()


def _main() -> None:
    parser = argparse.ArgumentParser(description="Train a tiny GPT-NeoX on the starter texts and save its checkpoints.")
    parser.add_argument("folder", metavar="FOLDER", help="where the checkpoints go")
    parser.add_argument("--steps", type=int, default=Training.n_steps, metavar="N", help="steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed (default: 0)")
    arguments = parser.parse_args()
    training = Training(n_steps=arguments.steps, seed=arguments.seed)
    losses = train_checkpoints(arguments.folder, training=training, show_progress=True)
    for name, loss in losses.items():
        print(f"{name}: training loss {loss:.2f}")


if __name__ == "__main__":
    _main()
