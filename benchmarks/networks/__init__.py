"""The networks that the paper compares its own with, to be timed beside them.

Written over the operations of `effnet_jax.inference`, with batch norm folded,
so that both sides of a comparison run in the same way.
"""
