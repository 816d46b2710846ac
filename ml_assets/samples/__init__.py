"""Small pieces of the real data sets, and the programs that drew them."""
