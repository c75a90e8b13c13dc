import pytest

from midlayer_embed.ground.progress import progress


def test_a_bar_that_is_not_shown_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(2, "Measuring", "metric", False, items="ab")) == ["a", "b"]
    assert capsys.readouterr() == ("", "")


def test_a_bar_names_the_work_and_its_unit_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2000, "Encoding", "tok", True) as bar:
        bar.update(2000)
    with progress(2, "Resampling", "half", True) as bar:
        bar.update(2)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Encoding: 100%" in shown.err and "2.00k/2.00k" in shown.err and "tok/s" in shown.err
    assert "Resampling: 100%" in shown.err and "2/2" in shown.err


def test_short_work_shows_no_bar_before_its_delay(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2, "views", "view", True, delay=60) as bar:
        bar.update(2)
    assert "views" not in capsys.readouterr().err
