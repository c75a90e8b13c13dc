"""What people see of a leaderboard. Numbers come from `leaderboard.results.tables`; nothing is computed here."""
