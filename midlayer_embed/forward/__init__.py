"""Every layer from one forward pass: batches, hooks and pooling."""
