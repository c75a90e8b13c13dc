"""Which layer to take, without labels: metrics of every layer, criteria and curves."""
