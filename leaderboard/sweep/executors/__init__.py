"""Executors score the layers of a task; so far, in processes of this machine."""
