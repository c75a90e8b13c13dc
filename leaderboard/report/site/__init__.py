"""A folder that a static Hugging Face Space or GitHub Pages serves: the page, its README and a picture."""
