"""From items, which are texts or images, to batches of tensors: one protocol, two implementations."""
