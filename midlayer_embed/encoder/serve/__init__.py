"""Who else reads a saved folder: the form that all of them know, and what each of them makes of it."""
