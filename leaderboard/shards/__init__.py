"""Shards: what a sweep of many models and tasks is made of, what they cost, who does them."""
