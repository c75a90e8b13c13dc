"""Which recipe, without labels: candidates, forward passes, words. `recipe_search` brings them together."""
