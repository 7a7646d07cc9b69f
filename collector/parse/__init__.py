"""Parse messages into rows: the Python reference, the native parser, and the selection between them."""
