"""Colours of all figures, for every plotting library."""

# Okabe and Ito's colour-blind safe palette, without yellow and black, which are hard to see on white and on dark
# backgrounds.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
