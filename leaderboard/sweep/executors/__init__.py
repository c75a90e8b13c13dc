"""Where the layers of a task are scored: today in processes of this machine."""
