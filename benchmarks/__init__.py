"""How fast, how big and how sturdy the library is, measured on your machine. Nothing here is a test."""
