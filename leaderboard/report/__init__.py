"""What people see of a leaderboard. Numbers come from `leaderboard.results`; nothing is computed here."""
