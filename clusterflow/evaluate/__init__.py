"""Error metrics and what is made of them."""
