"""Tables, figures, the page and model cards. Computes no numbers; `leaderboard.results.tables` does."""
