"""The layouts that weights of this family come in, one module a family."""
