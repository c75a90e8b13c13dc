"""Every layer of a model over tasks, one forward pass a task."""
