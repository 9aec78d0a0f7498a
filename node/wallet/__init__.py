"""Keys and who may use them."""
