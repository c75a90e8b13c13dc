"""Fine-tuning: a MidLayerEncoder trains as any SentenceTransformer does, and is saved as one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from midlayer_embed import MidLayerEncoder


def test_a_step_reaches_every_matrix_of_the_kept_blocks_and_lowers_the_loss(
    any_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    encoder = MidLayerEncoder(any_folder, 2)
    encoder.train()
    loss = MultipleNegativesRankingLoss(encoder)
    batch = [encoder.preprocess(sentences[:4]), encoder.preprocess(sentences[4:])]
    optimizer = torch.optim.SGD(encoder.parameters(), lr=1e-3)

    def value() -> torch.Tensor:
        torch.manual_seed(0)  # drops out the same states each time
        found: torch.Tensor = loss([dict(features) for features in batch], torch.arange(4))
        return found

    before = value()
    before.backward()
    matrices = {
        name: parameter
        for name, parameter in encoder.named_parameters()
        if parameter.ndim > 1 and any(part.isdigit() for part in name.split(".")[1:])
    }
    assert len(matrices) > 4
    missed = {name for name, matrix in matrices.items() if matrix.grad is None or not matrix.grad.any()}
    # Its blocks 1 and 2 are the first of two groups; the second one is kept since stock ALBERT would spread them anew.
    assert missed == {name for name in matrices if "groups.1." in name and any_folder.name == "tiny-albert-groups"}
    optimizer.step()
    assert value() < before
    encoder.save_pretrained(str(tmp_path), create_model_card=False)
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path), device="cpu").encode(sentences), encoder.encode(sentences), atol=1e-6
    )


@pytest.mark.parametrize("kind", ["best", "resumed"])
def test_the_trainer_trains_and_goes_back_to_a_checkpoint(
    llama_folder: Path, sentences: list[str], tmp_path: Path, kind: str
) -> None:
    from datasets import Dataset

    pytest.importorskip("accelerate")
    encoder = MidLayerEncoder(llama_folder, 2, prompts={"query": "A "})
    untrained = encoder.encode(sentences)
    pairs = Dataset.from_dict({"anchor": sentences, "positive": sentences[::-1]})
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "run"),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        save_strategy="epoch",
        eval_strategy="epoch",
        load_best_model_at_end=kind == "best",
        # The worst is to be the best, so that it is not where the training ends.
        metric_for_best_model="eval_loss",
        greater_is_better=True,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(
        model=encoder,
        args=arguments,
        train_dataset=pairs,
        eval_dataset=pairs,
        loss=MultipleNegativesRankingLoss(encoder),
    )
    trainer.train()
    first = tmp_path / "run" / "checkpoint-2"
    assert np.abs(encoder.encode(sentences) - untrained).max() > 1e-3
    card = (first / "README.md").read_text()
    assert "trained further" in card
    if kind == "best":
        assert trainer.state.best_model_checkpoint == str(first)
        best, last = (
            SentenceTransformer(str(tmp_path / "run" / f"checkpoint-{step}"), device="cpu").encode(sentences)
            for step in (2, 4)
        )
        np.testing.assert_allclose(encoder.encode(sentences), best, atol=1e-6)
        assert np.abs(last - best).max() > 1e-3
    else:
        after = encoder.encode(sentences)
        trainer.train(resume_from_checkpoint=str(first))
        assert trainer.state.global_step == 4
        np.testing.assert_allclose(encoder.encode(sentences), after, atol=1e-3)
