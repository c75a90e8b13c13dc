import pytest

from midlayer_embed.metrics.gram import divisor
from midlayer_embed.selection.criteria import CRITERIA
from midlayer_embed.terms import (
    METRIC_TABLE,
    METRICS,
    NORMALIZATIONS,
    PAPER_METRICS,
    check_metrics,
    check_normalizations,
    n_views,
)


def test_metrics_are_first_the_seven_of_the_paper_in_their_order() -> None:
    assert (
        PAPER_METRICS
        == METRICS[:7]
        == (
            "prompt_entropy",
            "dataset_entropy",
            "curvature",
            "infonce",
            "lidar",
            "dime",
            "effective_rank",
        )
    )


def test_only_metrics_on_views_need_views() -> None:
    for name, metric in METRIC_TABLE.items():
        assert metric.name == name
        assert (metric.n_views > 0) == (metric.measured_on == "views"), name
    assert n_views([]) == 0 and n_views(PAPER_METRICS) == 16


def test_criteria_and_the_ends_that_they_take() -> None:
    assert CRITERIA == {
        "min-dime": ("dime", "min"),
        "min-infonce": ("infonce", "min"),
        "min-entropy": ("dataset_entropy", "min"),
        "min-lidar": ("lidar", "min"),
        "max-curvature": ("curvature", "max"),
        "half-retrieval": ("half_retrieval", "max"),
        "drop-retrieval": ("drop_retrieval", "max"),
        "max-rankme": ("effective_rank", "max"),
        "min-id": ("two_nn", "min"),
        "max-id": ("two_nn", "max"),
        "loes-isotropy": ("isotropy", "max"),
        "alpha-req": ("alpha_req", 1.0),
        "min-uniformity": ("uniformity", "min"),
        "max-agreement": ("agreement", "max"),
    }
    assert list(CRITERIA)[:3] == ["min-dime", "min-infonce", "min-entropy"]


def test_every_normalisation_has_a_divisor() -> None:
    assert [float(divisor(name, 8, 16)) > 0 for name in NORMALIZATIONS] == [True] * 5
    with pytest.raises(ValueError, match=r"normalization: expected one of raw, maxEntropy, .*, got 'logX'"):
        divisor("logX", 8, 16)


@pytest.mark.parametrize("check", [check_metrics, check_normalizations])
def test_unknown_names_are_refused_with_those_that_exist(check: object) -> None:
    assert callable(check)
    with pytest.raises(ValueError, match=r"expected some of .*, .*, got 'dimes'"):
        check(["dimes"])
    with pytest.raises(ValueError, match="got none"):
        check([])
