"""The best layer of a model, compared with the last one, in numbers and in words."""

from dataclasses import dataclass

from midlayer_embed.layers import layer_list


@dataclass(frozen=True)
class LayerSummary:
    """The best layer of a model, compared with the last one if that ran.

    Attributes:
        best: The layer with the highest mean over the tasks, among the layers that have a score for every task.
        last: L, the layer after the last block; None if it did not run.
        n_blocks: L, the number of blocks of the model.
        best_score: Mean score of the best layer, in points.
        last_score: Mean score of the last layer; None if it did not run or has no score for some task.
        layers: The layers that ran.
    """

    best: int
    last: int | None
    n_blocks: int
    best_score: float
    last_score: float | None
    layers: tuple[int, ...]

    @property
    def gain(self) -> float | None:
        """Mean score of the best layer minus that of the last, in points; None if there is none of the last."""
        return None if self.last_score is None else self.best_score - self.last_score

    def __str__(self) -> str:
        share = self.best / self.n_blocks
        place, blocks = f"layer {self.best} (depth {share:.2f})", f"{share:.0%} of the blocks"
        if len(self.layers) == 1:
            which = "the last one, " if self.last is not None else ""
            return f"only {place} ran, {which}{blocks}"
        if self.last is None:
            ran = f"best of the layers that ran ({layer_list(self.layers)})"
            return f"{ran}: {place}, {blocks}; the last layer did not run"
        if self.best == self.last:
            return f"best {place}, the last one"
        if self.gain is None:
            return f"best {place}, {blocks}; the last layer has no score for some of the tasks"
        return f"best {place}: {self.gain:+.1f} points over the last layer, {blocks}"
