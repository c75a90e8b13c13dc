"""Tables, figures, the page and model cards. Numbers are computed in `leaderboard.analysis`."""
