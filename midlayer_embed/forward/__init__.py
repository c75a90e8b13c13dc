"""Every layer out of one forward pass: batches, hooks and pooling."""
