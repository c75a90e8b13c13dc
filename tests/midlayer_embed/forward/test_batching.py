import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midlayer_embed.forward.batching import batches
from midlayer_embed.forward.row_batches import row_batches
from midlayer_embed.texts.tokens import TokenIds

_TOKEN_IDS = st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=20)


@given(_TOKEN_IDS, st.integers(1, 40))
def test_every_text_with_tokens_is_in_one_batch_unharmed(token_ids: list[list[int]], budget: int) -> None:
    seen: dict[int, list[int]] = {}
    for batch in batches(TokenIds.of(token_ids), pad_id=0, budget=budget):
        for row, ids, mask in zip(batch.rows, batch.input_ids, batch.attention_mask, strict=True):
            assert row not in seen
            seen[int(row)] = ids[mask.bool()].tolist()
            n = int(mask.sum())
            assert mask[:n].all()  # padded on the right
            assert (ids[n:] == 0).all()
    assert seen == {row: ids for row, ids in enumerate(token_ids) if ids}


@given(_TOKEN_IDS, st.integers(1, 40))
def test_batches_keep_to_the_budget_longest_first(token_ids: list[list[int]], budget: int) -> None:
    widths = []
    for batch in batches(TokenIds.of(token_ids), pad_id=0, budget=budget):
        rows, width = batch.input_ids.shape
        assert rows == 1 or rows * width <= budget
        widths.append(width)
    assert widths == sorted(widths, reverse=True)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(64, 4096))
def test_little_is_padded(lengths: list[int], budget: int) -> None:
    for batch in batches(TokenIds.of([[7] * length for length in lengths]), pad_id=0, budget=budget):
        width = batch.input_ids.shape[1]
        shortest = int(batch.attention_mask.sum(dim=1).min())
        tight = shortest >= 0.9 * width
        small = (batch.input_ids.shape[0] - 1) * width <= budget / 8
        assert tight or small


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 40), st.integers(1, 5))
def test_batches_hold_no_more_rows_than_asked(lengths: list[int], budget: int, most: int) -> None:
    found = list(row_batches(np.array(lengths, dtype=np.int64), budget, most))
    assert all(1 <= len(rows) <= most for rows in found)
    assert sorted(row for rows in found for row in rows) == [row for row, length in enumerate(lengths) if length]
